"""Fits whose answer is known: a coin, a linear regression, and a logistic one beside HMC.

Each experiment fits q by several estimators and says how far it is from the exact posterior.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, distributions

from worldmodels.bbvi.diagnostics import NoParetoTail, pareto_k
from worldmodels.bbvi.examples.mcmc import HMCConfig, hmc
from worldmodels.bbvi.examples.models import BetaBernoulli, LinearRegression, LogisticRegression
from worldmodels.bbvi.families import (
    FullCovarianceGaussian,
    MeanFieldBeta,
    MeanFieldGaussian,
    VariationalFamily,
)
from worldmodels.bbvi.fit import (
    BBVIConfig,
    Estimator,
    NonFiniteGradient,
    estimate_elbo,
    fit_bbvi,
)
from worldmodels.bbvi.joint import LogJoint

PLAIN, FITTED, LEAVE_ONE_OUT, PATHWISE = (
    *(Estimator("score", control) for control in ("none", "fitted", "leave-one-out")),
    Estimator("pathwise", "none"),
)


@dataclass(frozen=True)
class Fit:
    """A row of the table.

    Attributes:
        family: what q is.
        kl: KL(q, posterior) in nats.
        pareto_k: k-hat of the importance weights; nan where they have no tail to judge.
        seconds: of the fit alone.
        diverged: it ended early, at a gradient that was not finite; KL and k-hat may be nan.
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
    """What all fits of a command share.

    Attributes:
        num_steps: of every fit; None leaves each experiment its own number.
        on_fit: told every fit when it is done.
    """

    seed: int = 0
    num_steps: int | None = None
    on_fit: Callable[[Fit], None] = lambda fit: None

    def steps(self, config: BBVIConfig) -> BBVIConfig:
        """The config, with the number of steps asked for."""
        return config if self.num_steps is None else replace(config, num_steps=self.num_steps)

    def generator(self) -> torch.Generator:
        """A fresh one: every fit draws the same noise."""
        return torch.Generator().manual_seed(self.seed)

    def fit(
        self,
        experiment: str,
        family_name: str,
        model: LogJoint,
        family: VariationalFamily,
        config: BBVIConfig,
        kl: Callable[[], float],
        on_step: Callable[[int, float], None] = lambda step, elbo: None,
    ) -> Fit:
        """Fit `family` in place, judge it, and tell.

        Args:
            kl: KL(q, posterior) in nats of the family as it then is.
        """
        generator, config = self.generator(), self.steps(config)
        started, diverged = time.monotonic(), False
        try:
            fit_bbvi(model, family, config, generator=generator, on_step=on_step)
        except NonFiniteGradient:  # a finding here: the noisiest do it
            diverged = True
        seconds = time.monotonic() - started
        try:
            khat = pareto_k(model, family, generator=generator)
        except NoParetoTail:
            khat = math.nan
        fit = Fit(
            experiment,
            family_name,
            str(config.estimator),
            config.optimizer,
            kl(),
            khat,
            seconds,
            diverged,
        )
        self.on_fit(fit)
        return fit


@dataclass(frozen=True)
class CoinFits:
    """q of each estimator beside the exact Beta."""

    fits: list[Fit]
    families: Mapping[str, distributions.Beta]
    posterior: distributions.Beta


def fit_coin(plan: FittingPlan) -> CoinFits:
    """Beta(10, 10), six ones, four zeros: the posterior is Beta(16, 14)."""
    model, fits, families = BetaBernoulli(), [], {}
    exact = model.posterior
    posterior = distributions.Beta(exact.concentration1.double(), exact.concentration0.double())
    for estimator in (PLAIN, FITTED, LEAVE_ONE_OUT, PATHWISE):
        family = MeanFieldBeta(1).double()
        config = BBVIConfig(
            estimator, num_samples=128, num_steps=800, learning_rate=0.1, final_learning_rate=1e-3
        )

        def kl(family: MeanFieldBeta = family) -> float:
            return float(distributions.kl_divergence(family.distribution(), posterior).detach())

        fits.append(plan.fit("beta-bernoulli", "Beta", model.joint, family, config, kl))
        families[str(estimator)] = family.distribution()
    return CoinFits(fits, families, posterior)


@dataclass(frozen=True)
class GaussianFits:
    """q of each estimator beside the exact Gaussian."""

    fits: list[Fit]
    families: Mapping[str, distributions.MultivariateNormal]
    posterior: distributions.MultivariateNormal


def fit_gaussian(plan: FittingPlan) -> GaussianFits:
    """Linear regression with five correlated weights, by a Gaussian of full covariance."""
    model, fits, families = LinearRegression.synthetic(), [], {}
    for estimator in (FITTED, LEAVE_ONE_OUT, PATHWISE):
        family = FullCovarianceGaussian(5).double()
        config = BBVIConfig(
            estimator, num_samples=64, num_steps=500, learning_rate=0.1, final_learning_rate=1e-3
        )

        def kl(family: FullCovarianceGaussian = family) -> float:
            q = family.distribution()
            return float(distributions.kl_divergence(q, model.posterior).detach())

        fits.append(plan.fit("gaussian", "full covariance", model.joint, family, config, kl))
        families[str(estimator)] = family.distribution()
    return GaussianFits(fits, families, model.posterior)


@dataclass(frozen=True)
class LogisticFits:
    """q of each family and estimator beside draws of the posterior.

    Attributes:
        families: by family and estimator.
        log_evidence: by importance sampling, in nats; and its standard error.
        r_hat: of the chains, the worst latent's; below 1.01 they agree.
    """

    fits: list[Fit]
    families: Mapping[str, MeanFieldGaussian | FullCovarianceGaussian]
    draws: Float[Tensor, "draw latent"]
    log_evidence: float
    log_evidence_error: float
    r_hat: float


def fit_logistic(plan: FittingPlan) -> LogisticFits:
    """Logistic regression with five weights; HMC stands in for the posterior.

    KL(q, posterior) is log p(x) - ELBO; log p(x) by importance sampling, since no closed form is.
    """
    model, fits = LogisticRegression.synthetic(), []
    chains = hmc(model.joint, 5, HMCConfig(), generator=plan.generator())
    evidence, error = importance_log_evidence(
        model.joint, chains.mean, chains.covariance, plan.generator()
    )
    families: dict[str, MeanFieldGaussian | FullCovarianceGaussian] = {}
    for name, make, estimator in (
        ("mean field", MeanFieldGaussian, PATHWISE),
        ("full covariance", FullCovarianceGaussian, LEAVE_ONE_OUT),
        ("full covariance", FullCovarianceGaussian, PATHWISE),
    ):
        family = make(5).double()
        config = BBVIConfig(
            estimator, num_samples=64, num_steps=500, learning_rate=0.1, final_learning_rate=1e-3
        )

        def kl(family: VariationalFamily = family) -> float:
            return evidence - estimate_elbo(model.joint, family, 50_000, plan.generator()).mean

        fits.append(plan.fit("logistic", name, model.joint, family, config, kl))
        families[f"{name}, {estimator}"] = family
    draws = chains.draws.flatten(0, 1)
    return LogisticFits(fits, families, draws, evidence, error, float(chains.r_hat.max()))


@torch.no_grad()
def importance_log_evidence(
    model: LogJoint,
    mean: Float[Tensor, "latent"],
    covariance: Float[Tensor, "latent latent"],
    generator: torch.Generator,
    num_samples: int = 100_000,
) -> tuple[float, float]:
    """Log p(x) in nats and its standard error, from a Student-t around a posterior's moments.

    With 5 degrees of freedom its tails are heavier than those of a posterior under a Gaussian
    prior, so the weights are bounded.
    """
    degrees, num_latents = 5.0, len(mean)
    tril = torch.linalg.cholesky(covariance)
    noise = torch.randn(num_samples, num_latents, generator=generator, dtype=mean.dtype)
    # torch's own StudentT takes no generator; a chi-square is twice a gamma of half the degrees.
    shape = torch.full((num_samples, 1), degrees / 2, dtype=mean.dtype)
    t = noise * (degrees / (2 * torch._standard_gamma(shape, generator=generator))).sqrt()
    normalizer = (
        torch.lgamma(torch.tensor((degrees + num_latents) / 2, dtype=mean.dtype))
        - torch.lgamma(torch.tensor(degrees / 2, dtype=mean.dtype))
        - 0.5 * num_latents * torch.log(torch.tensor(degrees * torch.pi, dtype=mean.dtype))
        - tril.diagonal().log().sum()
    )
    log_q = normalizer - 0.5 * (degrees + num_latents) * (t.square().sum(1) / degrees).log1p()
    log_weight = model(mean + t @ tril.T) - log_q
    top = log_weight.max()
    weight = (log_weight - top).exp()
    error = weight.std() / weight.mean() / num_samples**0.5
    return float(top + weight.mean().log()), float(error)
