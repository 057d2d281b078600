"""Measure the variance of each estimator's gradient at fixed parameters."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.bbvi.families import VariationalFamily
from worldmodels.bbvi.fit import ALL_ESTIMATORS, Estimator, elbo_surrogate
from worldmodels.bbvi.joint import FactoredJoint, LogJoint
from worldmodels.errors import UserError


@dataclass(frozen=True)
class GradientMoments:
    """Mean and variance of one estimator's gradient over repeated estimates, per parameter."""

    mean: Float[Tensor, "parameter"]
    variance: Float[Tensor, "parameter"]
    num_repeats: int

    @property
    def total_variance(self) -> float:
        """Variance summed over parameters.

        This sum is the expected squared distance between a gradient and the mean gradient.
        """
        return float(self.variance.sum())

    @property
    def standard_error(self) -> Float[Tensor, "parameter"]:
        """Standard error of the mean gradient, for each parameter."""
        return (self.variance / self.num_repeats).sqrt()


def applicable_estimators(model: LogJoint, family: VariationalFamily) -> tuple[Estimator, ...]:
    """Return the estimators that can be used with this model and family.

    This function assumes that the model is differentiable in z.
    """
    return tuple(
        estimator
        for estimator in ALL_ESTIMATORS
        if (estimator.method != "rao-blackwell" or isinstance(model, FactoredJoint))
        and (estimator.method != "pathwise" or family.can_rsample)
    )


def gradient_variance(
    model: LogJoint,
    family: VariationalFamily,
    *,
    num_samples: int,
    num_repeats: int,
    generator: torch.Generator,
    estimators: Sequence[Estimator] | None = None,
) -> dict[str, GradientMoments]:
    """Estimate the mean and variance of every estimator's ELBO gradient at fixed parameters.

    Args:
        num_samples: number of samples of q per gradient.
        num_repeats: number of gradients per estimator, at least 2; each gradient is computed from
            new samples.
        estimators: the estimators to compare. If `estimators` is None, all applicable estimators
            are compared.

    Returns: a dictionary of the moments of each estimator's gradient. The keys are the names of
    the estimators, for example "rao-blackwell + leave-one-out".
    """
    if num_repeats < 2:
        raise UserError(f"num_repeats must be at least 2, got {num_repeats}")
    parameters = [parameter for parameter in family.parameters() if parameter.requires_grad]
    table = {}
    for estimator in estimators or applicable_estimators(model, family):
        gradients = []
        for _ in range(num_repeats):
            surrogate, _ = elbo_surrogate(model, family, estimator, num_samples, generator)
            parts = torch.autograd.grad(surrogate, parameters, materialize_grads=True)
            gradients.append(torch.cat([part.flatten() for part in parts]))
        sampled = torch.stack(gradients).cpu().double()
        table[str(estimator)] = GradientMoments(sampled.mean(0), sampled.var(0), num_repeats)
    return table
