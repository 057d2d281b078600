"""Fits whose results can be checked: a coin, a linear regression and a logistic regression.

The coin and the linear regression have an exact posterior in closed form. For the logistic
regression, HMC draws samples from the posterior.

Each experiment fits q with several estimators and reports how far q is from the posterior.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, distributions

from worldmodels.bbvi.diagnostics import NoParetoTail, pareto_k
from worldmodels.bbvi.examples.mcmc import HMCConfig, hmc
from worldmodels.bbvi.examples.models import BetaBernoulli, LinearRegression, LogisticRegression
from worldmodels.bbvi.families import (
    FullCovarianceGaussian,
    MeanFieldBeta,
    MeanFieldGaussian,
    VariationalFamily,
)
from worldmodels.bbvi.fit import BBVIConfig, Estimator, NonFiniteGradient, estimate_elbo, fit_bbvi
from worldmodels.bbvi.joint import LogJoint

PLAIN, FITTED, LEAVE_ONE_OUT, PATHWISE = (
    *(Estimator("score", control) for control in ("none", "fitted", "leave-one-out")),
    Estimator("pathwise", "none"),
)
CONFIG = BBVIConfig(num_samples=64, num_steps=500, learning_rate=0.1, final_learning_rate=1e-3)

Config = TypeVar("Config", bound=Any)  # a dataclass that has `num_steps`
Family = TypeVar("Family", bound=VariationalFamily)


@dataclass(frozen=True)
class Fit:
    """One fit, which is a row of the results table.

    Attributes:
        family: name of q's family.
        kl: KL(q, posterior) in nats.
        pareto_k: k-hat of the importance weights, or nan if the weights have no tail.
        seconds: wall time of the fit alone.
        diverged: whether the fit ended early because a gradient was not finite. The KL and k-hat of
            a diverged fit may be nan.
    """

    experiment: str
    family: str
    estimator: str
    optimizer: str
    kl: float
    pareto_k: float
    seconds: float
    diverged: bool = False


@dataclass(frozen=True)
class FittingPlan:
    """Settings that all fits of a command share.

    Attributes:
        num_steps: number of optimizer steps of every fit. If `num_steps` is None, each experiment
            uses its own number of steps.
        on_fit: called with every fit as soon as the fit is done.
        num_repeats: number of gradients from which the variance of an estimator is computed.
    """

    seed: int = 0
    num_steps: int | None = None
    on_fit: Callable[[Fit], None] = lambda fit: None
    num_repeats: int = 200

    def steps(self, config: Config) -> Config:
        """Return `config` with this plan's number of steps."""
        return config if self.num_steps is None else replace(config, num_steps=self.num_steps)

    def generator(self) -> Generator:
        """Return a new generator with this plan's seed, so that every fit draws the same noise."""
        return Generator().manual_seed(self.seed)

    def fit(
        self,
        experiment: str,
        family_name: str,
        model: LogJoint,
        family: Family,
        config: BBVIConfig,
        kl: Callable[[Family], float],
        on_step: Callable[[int, float], None] = lambda step, elbo: None,
    ) -> Fit:
        """Fit `family` in place, evaluate the fitted family, and pass the result to `on_fit`.

        Args:
            kl: function that returns KL(q, posterior) of the fitted family, in nats.
        """
        generator, config = self.generator(), self.steps(config)
        names = experiment, family_name, str(config.estimator), config.optimizer
        started, diverged = time.monotonic(), False
        try:
            fit_bbvi(model, family, config, generator=generator, on_step=on_step)
        except NonFiniteGradient:  # the noisiest estimators diverge, which is a result
            diverged = True
        seconds = time.monotonic() - started
        try:
            khat = pareto_k(model, family, generator=generator)
        except NoParetoTail:
            khat = math.nan
        fit = Fit(*names, kl(family), khat, seconds, diverged)
        self.on_fit(fit)
        return fit


@dataclass(frozen=True)
class ExactFits:
    """The fits, the fitted q of each fit, and the exact posterior, of the same class as each q."""

    fits: list[Fit]
    found: list[Any]
    posterior: Any


def fit_coin(plan: FittingPlan) -> ExactFits:
    """Fit the probability that a coin shows 1, given throws with six ones and four zeros.

    The prior is Beta(10, 10), and the exact posterior is Beta(16, 14).
    """
    model = BetaBernoulli()
    exact = model.posterior
    posterior = distributions.Beta(exact.concentration1.double(), exact.concentration0.double())
    families = {e: MeanFieldBeta(1) for e in (PLAIN, FITTED, LEAVE_ONE_OUT, PATHWISE)}
    config = replace(CONFIG, num_samples=128, num_steps=800)
    return _exact_fits(plan, ("beta-bernoulli", "Beta"), model.joint, families, posterior, config)


def fit_gaussian(plan: FittingPlan) -> ExactFits:
    """Fit a full-covariance Gaussian to the five correlated weights of a linear regression."""
    model, names = LinearRegression.synthetic(), ("gaussian", "full covariance")
    families = {e: FullCovarianceGaussian(5) for e in (FITTED, LEAVE_ONE_OUT, PATHWISE)}
    return _exact_fits(plan, names, model.joint, families, model.posterior, CONFIG)


def _exact_fits(
    plan: FittingPlan,
    names: tuple[str, str],
    joint: LogJoint,
    families: Mapping[Estimator, VariationalFamily],
    posterior: distributions.Distribution,
    config: BBVIConfig,
) -> ExactFits:
    """Fit one family per estimator, in double precision."""

    def kl(family: VariationalFamily) -> float:
        return distributions.kl_divergence(family.distribution(), posterior).item()

    fits = [
        plan.fit(*names, joint, family.double(), replace(config, estimator=estimator), kl)
        for estimator, family in families.items()
    ]
    return ExactFits(fits, [family.distribution() for family in families.values()], posterior)


@dataclass(frozen=True)
class LogisticFits:
    """The fits, the fitted q of each fit, and draws from the posterior.

    Attributes:
        log_evidence, standard_error: log p(x) and its standard error in nats, both estimated by
            importance sampling.
        r_hat: largest R-hat over all latents. If `r_hat` is below 1.01, the chains agree.
    """

    fits: list[Fit]
    found: list[distributions.Distribution]
    draws: Float[Tensor, "draw latent"]
    log_evidence: float
    standard_error: float
    r_hat: float


def fit_logistic(plan: FittingPlan) -> LogisticFits:
    """Fit Gaussians to the five weights of a logistic regression.

    HMC draws the samples that represent the posterior.

    KL(q, posterior) is log p(x) - ELBO. log p(x) has no closed form and is estimated by importance
    sampling.
    """
    joint = LogisticRegression.synthetic().joint
    chains = hmc(joint, 5, HMCConfig(), generator=plan.generator())
    evidence, error = importance_log_evidence(
        joint, chains.mean, chains.covariance, plan.generator()
    )

    def kl(family: VariationalFamily) -> float:
        return evidence - estimate_elbo(joint, family, 50_000, plan.generator()).mean

    cases: tuple[tuple[str, VariationalFamily, Estimator], ...] = (
        ("mean field", MeanFieldGaussian(5), PATHWISE),
        ("full covariance", FullCovarianceGaussian(5), LEAVE_ONE_OUT),
        ("full covariance", FullCovarianceGaussian(5), PATHWISE),
    )
    fits = [
        plan.fit("logistic", name, joint, q.double(), replace(CONFIG, estimator=e), kl)
        for name, q, e in cases
    ]
    found = [q.distribution() for _, q, _ in cases]
    draws = chains.draws.flatten(0, 1)
    return LogisticFits(fits, found, draws, evidence, error, chains.r_hat.max().item())


@torch.no_grad()
def importance_log_evidence(
    model: LogJoint,
    mean: Float[Tensor, "latent"],
    covariance: Float[Tensor, "latent latent"],
    generator: Generator,
) -> tuple[float, float]:
    """Estimate log p(x) and its standard error, in nats, by importance sampling.

    The proposal is a Student-t distribution that is centred and scaled by the posterior's mean and
    covariance. The proposal has 5 degrees of freedom, so its tails are heavier than the tails of a
    posterior under a Gaussian prior. The importance weights are therefore bounded.
    """
    degrees, num_latents, num_samples = 5.0, len(mean), 100_000
    tril = torch.linalg.cholesky(covariance)
    noise = torch.randn(num_samples, num_latents, generator=generator, dtype=mean.dtype)
    # torch's StudentT takes no generator. A chi-square variable is twice a gamma variable with half
    # the degrees.
    shape = torch.full((num_samples, 1), degrees / 2, dtype=mean.dtype)
    t = noise * (degrees / (2 * torch._standard_gamma(shape, generator=generator))).sqrt()
    half = torch.tensor([degrees + num_latents, degrees], dtype=mean.dtype) / 2
    upper, lower = torch.lgamma(half)
    area = 0.5 * num_latents * torch.log(torch.tensor(degrees * torch.pi, dtype=mean.dtype))
    normalizer = upper - lower - area - tril.diagonal().log().sum()
    log_q = normalizer - 0.5 * (degrees + num_latents) * (t.square().sum(1) / degrees).log1p()
    log_weight = model(mean + t @ tril.T) - log_q
    top = log_weight.max()
    weight = (log_weight - top).exp()
    error = weight.std() / weight.mean() / num_samples**0.5
    return (top + weight.mean().log()).item(), error.item()
