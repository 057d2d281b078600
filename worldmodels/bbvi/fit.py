"""Black-box variational inference: fit any q to any log-joint by stochastic gradients of the ELBO.

    ELBO = E_q[log p(x, z) - log q(z)] = log p(x) - KL(q, posterior)

Source: Ranganath, Gerrish & Blei, "Black Box Variational Inference", arXiv 1401.0118.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodels.bbvi.families import OfFactors, VariationalFamily
from worldmodels.bbvi.joint import FactoredJoint, LogJoint, evaluate_log_joint, log_weights
from worldmodels.bbvi.score import fitted_baseline, score_surrogate, scores
from worldmodels.errors import (
    UserError,
    check_above_zero,
    check_at_least,
    check_choice,
    check_fraction,
)

METHODS = ("score", "rao-blackwell", "pathwise")
CONTROLS = ("none", "fitted", "leave-one-out")
OPTIMIZERS = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}


class NonFiniteGradient(UserError):
    """The gradient of a fit became nan or infinite."""


@dataclass(frozen=True)
class Estimator:
    """How a gradient of the ELBO is estimated; every estimator is unbiased.

    Attributes:
        method: "score" needs only the value of the log-joint. "rao-blackwell" is the score method
            with fewer terms. For each factor of q, "rao-blackwell" uses only the terms of the
            log-joint that involve this factor, which requires a `FactoredJoint`. "pathwise"
            differentiates through the samples. The method "pathwise" needs a log-joint that is
            differentiable in z, and a family with `rsample`.
        control: control variate that "score" and "rao-blackwell" subtract to reduce the variance of
            the gradient. "none" subtracts nothing. "fitted" is the paper's control variate and
            needs at least 3 samples. "leave-one-out" subtracts the mean over the other samples and
            needs at least 2 samples. The method "pathwise" requires the control "none".

    Source: arXiv 1401.0118, sections 2.2 ("score"), 3.1 ("rao-blackwell") and 3.2 ("fitted").
    """

    method: str = "score"
    control: str = "leave-one-out"

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("control", self.control, CONTROLS)
        if self.method == "pathwise" and self.control != "none":
            raise UserError(
                "the pathwise method takes no control variate: "
                f'expected control="none", got control="{self.control}"'
            )

    def __str__(self) -> str:
        return self.method if self.control == "none" else f"{self.method} + {self.control}"


ALL_ESTIMATORS = (
    *(Estimator(method, control) for method in METHODS[:2] for control in CONTROLS),
    Estimator("pathwise", "none"),
)


def elbo_surrogate(
    model: LogJoint,
    family: VariationalFamily,
    estimator: Estimator,
    num_samples: int,
    generator: Generator,
) -> tuple[Float[Tensor, ""], Float[Tensor, "sample"]]:
    """Return a scalar, whose gradient is an estimate of the ELBO's gradient, and log p - log q.

    The second output is log p - log q of each sample, in nats, without an autograd graph. The mean
    of this output over the samples is an estimate of the ELBO.

    Raises: UserError if the model or the family does not support the estimator.
    """
    if num_samples < 1:
        raise UserError(f"num_samples must be at least 1, got {num_samples}")
    if estimator.method == "pathwise":
        z = family.rsample(num_samples, generator)
        log_p = evaluate_log_joint(model, z)
        if not log_p.requires_grad:
            raise UserError(
                "log_joint has no gradient in z, which the pathwise method needs: "
                'use the method "score" or "rao-blackwell"'
            )
        difference = log_p - family.log_prob(z).sum(-1)
        return difference.mean(), difference.detach()

    z = family.sample(num_samples, generator)
    log_q = family.log_prob(z)
    with torch.no_grad():
        if estimator.method == "rao-blackwell":
            signal, log_p = _blanket_signal(model, family, z, log_q)
        else:
            log_p = evaluate_log_joint(model, z)
            signal = (log_p - log_q.sum(-1))[:, None].expand_as(log_q)
    control = estimator.control
    if control == "fitted":
        signal = signal - fitted_baseline(scores(log_q, family.parameters()), signal)
        control = "none"
    return score_surrogate(log_q, signal, control), log_p - log_q.detach().sum(-1)


def _blanket_signal(
    model: LogJoint, family: VariationalFamily, z: Tensor, log_q: OfFactors
) -> tuple[OfFactors, Float[Tensor, "sample"]]:
    """Return the signal of each factor, and log p.

    The signal of a factor is the sum of the terms of log p that involve the factor, minus the
    factor's log q.
    """
    if not isinstance(model, FactoredJoint):
        raise UserError(
            'the method "rao-blackwell" needs to know which terms involve which latent: '
            'pass a FactoredJoint(terms, involves), or use the method "score"'
        )
    terms = model.evaluate(z)
    # The product counts, for each factor and term, the factor's latents that the term involves.
    blanket = (family.membership.to(terms) @ model.involves.to(terms) > 0).to(terms)
    return terms @ blanket.T - log_q, terms.sum(-1)


@dataclass(frozen=True)
class BBVIConfig:
    """Settings of a fit of q.

    Attributes:
        num_samples: number of samples of q per step.
        num_steps: number of optimizer steps.
        optimizer: "adam", or "adagrad" as in the paper.
        learning_rate: learning rate of the first step. AdaGrad needs a learning rate that is about
            ten times as high as Adam's learning rate.
        final_learning_rate: learning rate of the last step, to which a cosine schedule leads. If
            `final_learning_rate` is None, the learning rate is constant.
        average_last: the result is the average of the parameters over the last steps of the fit
            (Polyak-Ruppert averaging). `average_last` is the fraction of the steps that are
            averaged; 0 turns averaging off.
    """

    estimator: Estimator = Estimator()
    num_samples: int = 32
    num_steps: int = 2000
    optimizer: str = "adam"
    learning_rate: float = 0.05
    final_learning_rate: float | None = None
    average_last: float = 0.25

    def __post_init__(self) -> None:
        check_at_least(1, self, "num_samples", "num_steps")
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_above_zero(self, "learning_rate")
        check_at_least(0, self, "final_learning_rate")
        check_fraction(self, "average_last")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step; `step` is counted from 0."""
        if self.final_learning_rate is None:
            return self.learning_rate
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / max(self.num_steps - 1, 1)))
        return self.final_learning_rate + cosine * (self.learning_rate - self.final_learning_rate)


@dataclass(frozen=True)
class BBVIResult:
    """The outcome of a fit; the fitted parameters are in the family itself.

    Attributes:
        elbo_history: the ELBO estimate of each step, in nats, from that step's samples.
        seconds: wall time of the fit.
    """

    elbo_history: Float[Tensor, "step"]
    seconds: float


def fit_bbvi(
    model: LogJoint,
    family: VariationalFamily,
    config: BBVIConfig,
    *,
    generator: Generator,
    on_step: Callable[[int, float], None] = lambda step, elbo: None,
) -> BBVIResult:
    """Fit the parameters of `family` in place, by maximizing the ELBO.

    Args:
        model: function that maps z of shape (sample, latent) to log p(x, z) of shape (sample,). The
            model may be a `FactoredJoint`.
        generator: source of all randomness, on the family's device.
        on_step: called after each step with the number of the step, counted from 1, and the ELBO
            estimate of the step in nats.

    Raises: UserError if the model or the family does not support the estimator. NonFiniteGradient
        is raised if the gradient of a step is not finite; the parameters then stay as they were
        before the step.
    """
    started = time.monotonic()
    parameters = [parameter for parameter in family.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[config.optimizer](parameters, lr=config.learning_rate, maximize=True)
    first_averaged = config.num_steps - round(config.average_last * config.num_steps)
    average: Tensor | None = None
    history = []
    for step in range(config.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        optimizer.zero_grad(set_to_none=True)
        surrogate, difference = elbo_surrogate(
            model, family, config.estimator, config.num_samples, generator
        )
        surrogate.backward()
        if not all(p.grad is None or torch.isfinite(p.grad).all() for p in parameters):
            raise NonFiniteGradient(
                f"the gradient of step {step + 1} is not finite (ELBO {difference.mean():g}): "
                f"use a learning rate below {config.learning_rate_at(step):g}, or check that "
                "log_joint is finite for every sample that the family can draw"
            )
        optimizer.step()
        history.append(float(difference.mean()))
        on_step(step + 1, history[-1])
        if step >= first_averaged:
            now = nn.utils.parameters_to_vector(parameters).detach()
            count = step - first_averaged + 1
            average = now if average is None else average + (now - average) / count
    if average is not None:
        nn.utils.vector_to_parameters(average, parameters)
    return BBVIResult(torch.tensor(history), time.monotonic() - started)


@dataclass(frozen=True)
class ElboEstimate:
    """Monte Carlo estimate of the ELBO in nats: the mean and its standard error."""

    mean: float
    standard_error: float


@torch.no_grad()
def estimate_elbo(
    model: LogJoint, family: VariationalFamily, num_samples: int, generator: Generator
) -> ElboEstimate:
    """Estimate the ELBO of q, which equals log p(x) - KL(q, posterior).

    Raises: UserError if there are fewer than 2 samples, because a single sample has no standard
    error.
    """
    if num_samples < 2:
        raise UserError(f"num_samples must be at least 2, got {num_samples}")
    difference = log_weights(model, family, family.sample(num_samples, generator)).cpu().double()
    return ElboEstimate(float(difference.mean()), float(difference.std()) / num_samples**0.5)
