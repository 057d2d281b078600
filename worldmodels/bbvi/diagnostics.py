"""Checks of whether q is close enough to the posterior, and whether Markov chains agree."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.bbvi.families import VariationalFamily
from worldmodels.bbvi.joint import LogJoint, log_weights
from worldmodels.errors import UserError

GOOD_PARETO_K = 0.7
MIN_DISTINCT_WEIGHTS = 10  # a tail has 20 weights or more; with fewer distinct ones it has no shape
MAX_LOG_SPREAD = 700.0  # nats, within a tail; exp(x) loses digits below x = -708 and then becomes 0


class NoParetoTail(UserError):
    """The importance weights have no tail: they are not finite or have few distinct values."""


@torch.no_grad()
def pareto_k(
    model: LogJoint,
    family: VariationalFamily,
    *,
    num_samples: int = 10_000,
    generator: torch.Generator,
) -> float:
    """Return k-hat of the importance weights p(x, z) / q(z), a measure of their heavy tails.

    k-hat needs a continuous q: discrete latents have only a few distinct weights, which form no
    tail.

    Below 0.5, q is close to the posterior. Above 0.7 (`GOOD_PARETO_K`), q misses mass that the
    posterior has, as a too narrow q does; then neither q nor importance sampling from q should be
    trusted. Only p's shape matters, not its normalizer. With 10,000 samples, k-hat is accurate to
    about 0.1.

    Raises: the same as `pareto_k_of_weights`, and `NoParetoTail` where most samples are repeats.

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
    """Return k-hat of importance weights, which are given as logarithms up to a constant.

    k-hat is 0 where the largest weights agree to a thousandth, because there is no tail to fit. It
    can be negative where the weights are bounded. It is infinite where the tail spans more than 700
    nats.

    Raises: UserError with fewer than 100 weights. `NoParetoTail` where some weights are nan or
    infinite, where all are zero, where the lowest quarter of the tail is tied, and where the tail
    has fewer than 10 distinct weights.
    """
    num = len(weights)
    if num < 100:
        raise UserError(f"k-hat needs at least 100 samples, got {num}")
    if weights.isnan().any() or weights.max().isinf():
        raise NoParetoTail("log_joint - log_q is nan or infinite: the weights have no tail")
    # This is the tail that arviz fits, in decreasing order, and the cutoff below it. The fit
    # divides by the distance of the tail's lower quartile from the cutoff.
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
    # arviz takes negative log-weights, the log-likelihoods of leave-one-out, where weights are 1/p.
    _, k = _arviz().psislw(-weights.cpu().double().numpy())
    return float(k)


def rank_normalized_r_hat(draws: Float[Tensor, "chain draw latent"]) -> Float[Tensor, "latent"]:
    """Return each latent's split, rank-normalized R-hat: 1 where chains agree, good below 1.01.

    Source: Vehtari et al., arXiv 1903.08008.
    """
    values = draws.detach().cpu().double().numpy()
    return torch.as_tensor(_arviz().rhat(values, chain_axis=0, draw_axis=1))


def _arviz() -> Any:
    """Import arviz when used: it loads SciPy's statistics, and V needs only gradients from here."""
    try:
        from arviz_stats.base import array_stats  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise UserError("this check needs arviz-stats: pip install arviz-stats") from error
    return array_stats
