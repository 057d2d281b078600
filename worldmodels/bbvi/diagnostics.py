"""Health checks: is q close enough to the posterior to be trusted, have the chains met?"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.bbvi.families import VariationalFamily
from worldmodels.bbvi.joint import LogJoint, log_weights
from worldmodels.errors import UserError

GOOD_PARETO_K = 0.7
MIN_DISTINCT_WEIGHTS = 10  # of a tail's 20 or more: with fewer it has steps, and no shape
MAX_LOG_SPREAD = 700.0  # in a tail, nats: exp of less than -708 loses digits, and then is 0


class NoParetoTail(UserError):
    """Importance weights that have no tail to judge: not finite, or the same few values."""


@torch.no_grad()
def pareto_k(
    model: LogJoint,
    family: VariationalFamily,
    *,
    num_samples: int = 10_000,
    generator: torch.Generator,
) -> float:
    """k-hat of the importance weights p(x, z) / q(z): how heavy-tailed they are.

    For continuous q alone: discrete latents have a few distinct weights, and those no tail.

    Below 0.5: q is close. Above 0.7 (`GOOD_PARETO_K`): q misses mass that the posterior has, as a
    too narrow q does, and neither q nor importance sampling from it should be trusted. Only p's
    shape matters, not its normalizer. 10,000 samples put k-hat within about 0.1.

    Raises: what `pareto_k_of_weights` does; `NoParetoTail` also where most samples are repeats.

    Source: Yao, Vehtari, Simpson & Gelman, "Yes, but Did It Work?", arXiv 1802.02538.
    """
    z = family.sample(num_samples, generator)
    num_distinct = len(z.unique(dim=0))
    if num_distinct < num_samples / 2:
        raise NoParetoTail(
            f"k-hat needs a continuous q, got {num_distinct} distinct of {num_samples} samples"
        )
    return pareto_k_of_weights(log_weights(model, family, z))


def pareto_k_of_weights(weights: Float[Tensor, "sample"]) -> float:
    """k-hat of given importance weights, as logarithms up to a constant.

    0 where the largest agree to a thousandth: there is no tail to fit. May be negative: weights
    that are bounded. Infinite where the tail spans more than 700 nats.

    Raises: UserError with fewer than 100 weights. `NoParetoTail` where some are nan, infinite, or
    all zero, and where the tail is tied at its foot or has fewer than 10 distinct weights.
    """
    num = len(weights)
    if num < 100:
        raise UserError(f"k-hat needs at least 100 samples, got {num}")
    if weights.isnan().any() or weights.max().isinf():
        raise NoParetoTail("log_joint - log_q is nan or infinite: no importance weights to judge")
    # The tail that arviz fits, from the largest down, and the cutoff below it. The fit divides by
    # how far the weight at the tail's lower quartile is above the cutoff.
    size = int(3 * num**0.5 if num > 225 else num / 5)
    tail = weights.topk(size + 1).values
    if tail[0] - tail[-1] < 1e-3:
        return 0.0
    lower_quartile = tail[size - size // 4]
    distinct = len(tail[:-1].unique())
    if distinct < MIN_DISTINCT_WEIGHTS or lower_quartile == tail[-1]:
        raise NoParetoTail(
            f"the largest {size} importance weights are tied, {distinct} of them distinct: "
            "k-hat needs a continuous q, and double precision where q is almost exact"
        )
    if tail[0] - lower_quartile > MAX_LOG_SPREAD:
        return math.inf
    # arviz takes the negative: log-likelihoods of leave-one-out, whose weights are 1 / p.
    _, k = _arviz().psislw(-weights.cpu().double().numpy())
    return float(k)


def rank_normalized_r_hat(draws: Float[Tensor, "chain draw latent"]) -> Float[Tensor, "latent"]:
    """Split, rank-normalized R-hat of each latent: 1 where chains agree, below 1.01 is good.

    Source: Vehtari et al., arXiv 1903.08008.
    """
    values = draws.detach().cpu().double().numpy()
    return torch.as_tensor(_arviz().rhat(values, chain_axis=0, draw_axis=1))


def _arviz() -> Any:
    """Imported on use: it brings SciPy's statistics, and V needs only the gradients of here."""
    try:
        from arviz_stats.base import array_stats  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise UserError("this check needs arviz-stats: pip install arviz-stats") from error
    return array_stats
