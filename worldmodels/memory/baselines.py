"""Persistence baselines for M, which predict that the latent stays about the same.

Each baseline depends on the data only through a few sums. One pass over the data is therefore
enough to fit or to evaluate a baseline exactly.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Parts differ in their number of agent steps.
Latents = Float[Tensor, "_ latent"]
Codes = Int[Tensor, "_ code"]


@dataclass(frozen=True)
class PersistenceGaussian:
    """A Gaussian around the present latent, with one fitted sigma per dimension."""

    sigma: Float[Tensor, "latent"]

    @classmethod
    def fit(cls, pairs: Iterable[tuple[Latents, Latents]]) -> "PersistenceGaussian":
        """Fit sigma by maximum likelihood; `pairs` has the latents before and after agent steps."""
        return cls(_mean_square_change(pairs).sqrt().float().clamp(min=1e-4))

    def nll(self, pairs: Iterable[tuple[Latents, Latents]]) -> float:
        """Return the negative log-likelihood in nats per agent step, summed over dimensions."""
        variance = self.sigma.double().square()
        scaled = _mean_square_change(pairs) / variance
        return float(0.5 * (scaled + variance.log() + math.log(2.0 * math.pi)).sum())


def _mean_square_change(pairs: Iterable[tuple[Latents, Latents]]) -> Float[Tensor, "latent"]:
    total, count = torch.zeros(1, dtype=torch.float64), 0
    for now, then in pairs:
        total = total + (then - now).double().square().sum(0)
        count += len(now)
    return total / count


Counts = Float[Tensor, "code value"]


def _count(pairs: Iterable[tuple[Codes, Codes]], num_values: int) -> tuple[Counts, Counts, float]:
    """Count next values, persisting values and agent steps in one pass over `pairs`.

    The first two results hold one count for each value at each position of a frame. The counts are
    exact, because float64 represents large integers exactly.
    """
    counts = torch.zeros(0)
    for now, then in pairs:
        if not len(counts):
            counts = torch.zeros(2, then.shape[1], num_values, dtype=torch.float64)
        counts[0].scatter_add_(1, then.T, torch.ones_like(then.T, dtype=torch.float64))
        counts[1].scatter_add_(1, then.T, (now == then).T.double())
    return counts[0], counts[1], float(counts[0, 0].sum())


@dataclass(frozen=True)
class PersistenceCategorical:
    """A baseline in which the code at each position either persists or is drawn anew.

    Attributes:
        persistence: for each position, the probability that the code is not drawn anew.
        frequency: for each position, the probabilities from which a new code is drawn. The new code
            may equal the present code.
    """

    persistence: Float[Tensor, "code"]
    frequency: Float[Tensor, "code value"]

    @classmethod
    def fit(
        cls, pairs: Iterable[tuple[Codes, Codes]], num_values: int, num_sweeps: int = 30
    ) -> "PersistenceCategorical":
        """Fit by maximum likelihood with EM; `pairs` has the codes before and after agent steps.

        The frequencies are smoothed by half a count per value.
        """
        followed, persisted, num_steps = _count(pairs, num_values)
        persistence = (persisted.sum(1) / num_steps).clamp(1e-3, 1 - 1e-3)
        kept = torch.zeros_like(persisted)  # codes that were not drawn anew
        for _ in range(num_sweeps):
            drawn = 0.5 + followed - kept
            frequency = drawn / drawn.sum(1, keepdim=True)
            purpose = persistence[:, None]
            kept = persisted * purpose / (purpose + (1 - purpose) * frequency)
            persistence = (kept.sum(1) / num_steps).clamp(1e-4, 1 - 1e-4)
        return cls(persistence.float(), frequency.float())

    def nll(self, pairs: Iterable[tuple[Codes, Codes]]) -> float:
        """Return the negative log-likelihood in nats per agent step, summed over codes."""
        followed, persisted, num_steps = _count(pairs, self.frequency.shape[1])
        purpose, frequency = self.persistence.double()[:, None], self.frequency.double()
        drawn = (1 - purpose) * frequency
        total = torch.special.xlogy(persisted, purpose + drawn)
        total = total + torch.special.xlogy(followed - persisted, drawn)
        return -float(total.sum()) / num_steps
