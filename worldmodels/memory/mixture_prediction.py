"""The predicted distribution of the next latent: likelihood, mean and samples."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.memory.codes import sample_categorical
from worldmodels.memory.mixture_gradient import attach_gradient
from worldmodels.memory.noise import shared_noise
from worldmodels.memory.outcome import Outcome


@dataclass(frozen=True)
class MixturePrediction:
    """A mixture of Gaussians per dimension of the next latent, and the agent step's outcome."""

    log_pi: Float[Tensor, "*batch latent mixture"]
    mu: Float[Tensor, "*batch latent mixture"]
    log_sigma: Float[Tensor, "*batch latent mixture"]
    outcome: Outcome

    def log_prob(self, z_next: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Return the log-likelihood of the next latent, in nats, summed over latent dimensions.

        Source: arXiv 1803.10122, A.2: each dimension has its own mixture.
        """
        deviation = (z_next[..., None] - self.mu) * (-self.log_sigma).exp()
        log_normal = -0.5 * (deviation.square() + math.log(2 * math.pi)) - self.log_sigma
        return (self.log_pi + log_normal).logsumexp(-1).sum(-1)

    def mean(self) -> Float[Tensor, "*batch latent"]:
        """Return the expected next latent."""
        return (self.log_pi.exp() * self.mu).sum(-1)

    def sample(
        self,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        num_candidates: int = 1,
    ) -> Float[Tensor, "*batch latent"]:
        """Sample the next latent.

        The temperature divides the logits of the mixture and multiplies the variances. At
        temperature 0 the result is the mean of the likeliest Gaussian of each dimension. The batch
        consists of `num_candidates` blocks of equal size, and row i of every block gets the same
        noise.

        Source: arXiv 1803.10122, 4.2 and A.2; the module `mixture_gradient` explains the gradient.
        """
        if temperature <= 0:
            component = self.log_pi.argmax(-1, keepdim=True)
            return self.mu.gather(-1, component)[..., 0]

        def gaussian(mu: Tensor, log_sigma: Tensor) -> Tensor:
            noise = shared_noise(torch.randn, mu, generator, num_candidates)
            return mu + math.sqrt(temperature) * log_sigma.exp() * noise

        if self.mu.shape[-1] == 1:
            return gaussian(self.mu[..., 0], self.log_sigma[..., 0])
        parameters = (self.log_pi, self.mu, self.log_sigma)
        with torch.no_grad():
            component = sample_categorical(self.log_pi, temperature, generator, num_candidates)
            index = component[..., None]
            mu, log_sigma = (each.gather(-1, index)[..., 0] for each in parameters[1:])
            sample = gaussian(mu, log_sigma)
        if torch.is_grad_enabled() and any(part.requires_grad for part in parameters):
            return attach_gradient(sample, *parameters, temperature)
        return sample

    def disagreement(self) -> None:
        """Return None, because a single model has no disagreement."""
