"""What any M has to beat: "the next latent is this one", with its uncertainty fitted."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class StayGaussian:
    """Next latent ~ N(this latent, sigma of each dimension fitted on training data)."""

    sigma: Float[Tensor, "latent"]

    @classmethod
    def fit(
        cls, now: Float[Tensor, "decision latent"], then: Float[Tensor, "decision latent"]
    ) -> "StayGaussian":
        """Maximum likelihood."""
        return cls((then - now).square().mean(0).sqrt().clamp(min=1e-4))

    def nll(
        self, now: Float[Tensor, "decision latent"], then: Float[Tensor, "decision latent"]
    ) -> float:
        """Negative log-likelihood in nats a decision, summed over dimensions."""
        normal = torch.distributions.Normal(now, self.sigma)
        return -float(normal.log_prob(then).sum(-1).mean())


@dataclass(frozen=True)
class StayCategorical:
    """A code stays with its position's fitted probability, else its position's own frequencies.

    Attributes:
        stay: probability that a code is kept on purpose.
        frequency: of the values drawn otherwise, one row a position; it may draw the same again.
    """

    stay: Float[Tensor, "code"]
    frequency: Float[Tensor, "code value"]

    @classmethod
    def fit(
        cls,
        now: Int[Tensor, "decision code"],
        then: Int[Tensor, "decision code"],
        num_values: int,
        num_sweeps: int = 30,
    ) -> "StayCategorical":
        """Maximum likelihood by EM; the frequencies are smoothed by half a count a value."""
        same = (now == then).float()
        stay = same.mean(0).clamp(1e-3, 1 - 1e-3)
        kept = torch.zeros_like(same)
        for _ in range(num_sweeps):
            counts = torch.full((then.shape[1], num_values), 0.5)
            counts.scatter_add_(1, then.T, (1.0 - kept).T)
            frequency = counts / counts.sum(1, keepdim=True)
            chance = frequency.gather(1, then.T).T
            kept = stay * same / (stay * same + (1 - stay) * chance)
            stay = kept.mean(0).clamp(1e-4, 1 - 1e-4)
        return cls(stay, frequency)

    def nll(self, now: Int[Tensor, "decision code"], then: Int[Tensor, "decision code"]) -> float:
        """Negative log-likelihood in nats a decision, summed over codes."""
        chance = self.frequency.gather(1, then.T).T
        probability = self.stay * (now == then).float() + (1 - self.stay) * chance
        return -float(probability.log().sum(-1).mean())
