"""Diagnostics show whether q is close enough to the posterior, and whether Markov chains agree."""

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
    """The importance weights have no tail: some are not finite, or too few are distinct."""


@torch.no_grad()
def pareto_k(
    model: LogJoint,
    family: VariationalFamily,
    *,
    num_samples: int = 10_000,
    generator: torch.Generator,
) -> float:
    """Return k-hat of the importance weights p(x, z) / q(z).

    k-hat measures how heavy the tail of the weights is.

    k-hat needs a continuous q, because the weights of discrete latents have only a few distinct
    values and thus no tail.

    If k-hat is below 0.5, q is close to the posterior. If k-hat is above 0.7 (`GOOD_PARETO_K`), q
    misses mass of the posterior, for example because q is too narrow. With a k-hat above 0.7, trust
    neither q nor importance sampling from q. k-hat does not depend on the normalizer of p. With
    10,000 samples, k-hat is accurate to about 0.1.

    Raises: NoParetoTail if fewer than half of the samples are distinct. The errors of
    `pareto_k_of_weights` are raised too.

    Source: Yao, Vehtari, Simpson & Gelman, "Yes, but Did It Work?", arXiv 1802.02538.
    """
    z = family.sample(num_samples, generator)
    num_distinct = len(z.unique(dim=0))
    if num_distinct < num_samples / 2:
        raise NoParetoTail(
            f"k-hat needs a continuous q, got {num_distinct} distinct values "
            f"in {num_samples} samples"
        )
    return pareto_k_of_weights(log_weights(model, family, z))


def pareto_k_of_weights(weights: Float[Tensor, "sample"]) -> float:
    """Return k-hat of importance weights.

    `weights` are the logarithms of the importance weights, up to an additive constant.

    k-hat is 0 if the largest weights differ by less than a thousandth, because there is then no
    tail to fit. k-hat can be negative if the weights are bounded. k-hat is infinite if the
    logarithms of the tail's weights span more than 700 nats.

    Raises: UserError if there are fewer than 100 weights. NoParetoTail is raised if a weight is nan
    or infinite, if all weights are zero, if all weights in the lowest quarter of the tail are
    equal, or if the tail has fewer than 10 distinct weights.
    """
    num = len(weights)
    if num < 100:
        raise UserError(f"k-hat needs at least 100 samples, got {num}")
    if weights.isnan().any() or weights.max().isinf():
        raise NoParetoTail(
            "log_joint - log_q is nan or infinite, so no Pareto tail can be fitted to the weights"
        )
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
            f"some of the largest {size} importance weights are equal ({distinct} are distinct): "
            "k-hat needs a continuous q, and needs double precision if q is almost exact"
        )
    if tail[0] - lower_quartile > MAX_LOG_SPREAD:
        return math.inf
    # arviz takes negative log-weights, the log-likelihoods of leave-one-out, where weights are 1/p.
    _, k = _arviz().psislw(-weights.cpu().double().numpy())
    return float(k)


def rank_normalized_r_hat(draws: Float[Tensor, "chain draw latent"]) -> Float[Tensor, "latent"]:
    """Return the rank-normalized split R-hat of each latent.

    R-hat is 1 if the chains agree perfectly; an R-hat below 1.01 is good.

    Source: Vehtari et al., arXiv 1903.08008.
    """
    values = draws.detach().cpu().double().numpy()
    return torch.as_tensor(_arviz().rhat(values, chain_axis=0, draw_axis=1))


def _arviz() -> Any:
    """Import arviz only when it is used, because arviz loads SciPy's statistics.

    V with categorical codes uses only the gradients of this package and does not need arviz.
    """
    try:
        from arviz_stats.base import array_stats  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise UserError("this check needs arviz-stats: pip install arviz-stats") from error
    return array_stats
