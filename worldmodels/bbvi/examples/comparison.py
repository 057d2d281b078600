"""All estimators are compared on a model with 20 latents, by ELBO curves and gradient variances."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.bbvi.examples.experiments import FittingPlan
from worldmodels.bbvi.examples.models import HierarchicalPoisson
from worldmodels.bbvi.families import MeanFieldGaussian
from worldmodels.bbvi.fit import ALL_ESTIMATORS, BBVIConfig, Estimator
from worldmodels.bbvi.variance import gradient_variance

NUM_LATENTS = 20
NUM_SAMPLES = 16
# AdaGrad's steps shrink from the start, so at Adam's rate the parameters would hardly move. Its
# first steps are as long as the rate for any gradient; at a rate of 0.5, some estimators reach
# parameters where exp overflows.
LEARNING_RATES = {"adam": 0.05, "adagrad": 0.2}
FIRST, LAST = "start", "end"


@dataclass(frozen=True)
class Comparison:
    """Results of all estimators.

    Attributes:
        curves: `curves[optimizer][estimator]` is the exact ELBO after each step, in nats. If a fit
            diverged, its curve is shorter.
        best_elbo: the highest ELBO that a q of the family can have.
        log_evidence: exact log-evidence, in nats.
        gradient_variance: `gradient_variance["start"][estimator]` is the variance of the gradient
            at the first q, summed over parameters. The entry "end" of `gradient_variance` holds the
            variances at the best q.
    """

    curves: Mapping[str, Mapping[str, Float[Tensor, "step"]]]
    best_elbo: float
    log_evidence: float
    gradient_variance: Mapping[str, Mapping[str, float]]

    @property
    def least_kl(self) -> float:
        """The lowest KL(q, posterior) that a q of the family can have."""
        return self.log_evidence - self.best_elbo

    @property
    def cut(self) -> dict[str, dict[str, float]]:
        """The variance of the plain score estimator, divided by the variance of each estimator."""
        plain = str(Estimator("score", "none"))
        return {
            where: {name: variances[plain] / variance for name, variance in variances.items()}
            for where, variances in self.gradient_variance.items()
        }


def compare_estimators(plan: FittingPlan) -> Comparison:
    """Fit `HierarchicalPoisson` with every estimator and optimizer; measure gradient variances.

    All fits start at the same q and use the same number of samples per step. All fits with the same
    optimizer use the same learning rate. Gradient variances are measured at the first q and at the
    best q.
    """
    model = HierarchicalPoisson.synthetic(NUM_LATENTS)
    best, evidence = best_family(model), log_evidence(model)
    curves = {
        optimizer: {
            str(estimator): _elbo_curve(plan, model, evidence, estimator, optimizer)
            for estimator in ALL_ESTIMATORS
        }
        for optimizer in LEARNING_RATES
    }
    variances = {}
    for where, family in ((FIRST, MeanFieldGaussian(NUM_LATENTS)), (LAST, best)):
        table = gradient_variance(
            model.joint,
            family,
            num_samples=NUM_SAMPLES,
            num_repeats=plan.num_repeats,
            generator=plan.generator(),
        )
        variances[where] = {name: moments.total_variance for name, moments in table.items()}
    return Comparison(curves, model.exact_elbo(best).item(), evidence, variances)


def _elbo_curve(
    plan: FittingPlan,
    model: HierarchicalPoisson,
    evidence: float,
    estimator: Estimator,
    optimizer: str,
) -> Float[Tensor, "step"]:
    """Return the exact ELBO after each step of one fit."""
    family, rate = MeanFieldGaussian(NUM_LATENTS), LEARNING_RATES[optimizer]
    config = BBVIConfig(estimator, NUM_SAMPLES, 600, optimizer, rate)
    curve: list[float] = []

    def on_step(step: int, elbo: float) -> None:
        curve.append(model.exact_elbo(family).item())

    def kl(family: MeanFieldGaussian) -> float:
        return evidence - model.exact_elbo(family).item()

    plan.fit("variance", "mean field", model.joint, family, config, kl, on_step)
    return torch.tensor(curve)


def best_family(model: HierarchicalPoisson) -> MeanFieldGaussian:
    """Return the mean-field Gaussian with the highest ELBO, found by a deterministic optimizer."""
    family = MeanFieldGaussian(model.num_latents)
    optimizer = torch.optim.LBFGS(family.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -model.exact_elbo(family)
        loss.backward()
        return loss

    optimizer.step(closure)
    return family


def log_evidence(model: HierarchicalPoisson, num_points: int = 801) -> float:
    """Return log p(counts) in nats, accurate to five digits.

    The groups are independent, given the mean of the log-rates. Two nested integrals on a grid are
    therefore enough: an inner integral over each group's log-rate, and an outer integral over the
    mean of the log-rates. Each integral covers 8 prior standard deviations on either side of the
    prior's mean.
    """
    grid = torch.linspace(-8.0, 8.0, num_points, dtype=torch.float64)
    log_normal = grid.square().mul(-0.5).log_softmax(0)  # weights of the grid's points
    mean = model.PRIOR_SCALE * grid
    log_rate = mean[:, None] + grid  # axes: mean, offset
    likelihood = torch.zeros(num_points, dtype=torch.float64)
    for count in model.counts.double():
        of_count = count * log_rate - log_rate.exp() - torch.lgamma(count + 1)
        likelihood += (of_count + log_normal).logsumexp(1)
    return (likelihood + log_normal).logsumexp(0).item()
