"""Health checks: is q close enough to the posterior to be trusted, have the chains met?"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.errors import UserError
from worldmodels.inference.families import VariationalFamily
from worldmodels.inference.joint import LogJoint, evaluate_log_joint

GOOD_PARETO_K = 0.7


@torch.no_grad()
def pareto_k(
    model: LogJoint,
    family: VariationalFamily,
    *,
    num_samples: int = 10_000,
    generator: torch.Generator,
) -> float:
    """k-hat of the importance weights p(x, z) / q(z): how heavy-tailed they are.

    Below 0.5: q is close. Above 0.7 (`GOOD_PARETO_K`): q misses mass that the posterior has, as a
    too narrow q does, and neither q nor importance sampling from it should be trusted. Only p's
    shape matters, not its normalizer. 10,000 samples put k-hat within about 0.1.

    Source: Yao, Vehtari, Simpson & Gelman, "Yes, but Did It Work?", arXiv 1802.02538.
    """
    z = family.sample(num_samples, generator)
    return pareto_k_of_weights(evaluate_log_joint(model, z) - family.log_prob(z).sum(-1))


def pareto_k_of_weights(log_weights: Float[Tensor, "sample"]) -> float:
    """k-hat of given importance weights, as logarithms up to a constant.

    0 where all weights agree to a thousandth: there is no tail to fit. May be negative: weights
    that are bounded.

    Raises: UserError with fewer than 100 weights, and where some are nan, infinite, or all zero.
    """
    if len(log_weights) < 100:
        raise UserError(f"k-hat needs at least 100 samples, got {len(log_weights)}")
    if log_weights.isnan().any() or log_weights.max().isinf():
        raise UserError("log_joint - log_q is nan or infinite: no importance weights to judge")
    if log_weights.max() - log_weights.min() < 1e-3:
        return 0.0
    # arviz takes the negative: log-likelihoods of leave-one-out, whose weights are 1 / p.
    _, k = _arviz().psislw(-log_weights.double().cpu().numpy())
    return float(k)


def rank_normalized_r_hat(draws: Float[Tensor, "chain draw latent"]) -> Float[Tensor, "latent"]:
    """Split, rank-normalized R-hat of each latent: 1 where chains agree, below 1.01 is good.

    Source: Vehtari et al., arXiv 1903.08008.
    """
    values = draws.detach().double().cpu().numpy()
    return torch.as_tensor(_arviz().rhat(values, chain_axis=0, draw_axis=1))


def _arviz() -> Any:
    """Imported on use: it brings SciPy's statistics, and V needs only the gradients of here."""
    try:
        from arviz_stats.base import array_stats
    except ModuleNotFoundError as error:
        raise UserError("this check needs arviz-stats: pip install arviz-stats") from error
    return array_stats
