"""Variational families q(z; lambda), whose factors are independent and have one or more latents.

Parameters are unconstrained (means, log-scales, logits), so any optimizer can be used.
"""

import math
from typing import cast

import torch
from jaxtyping import Bool, Float, Num
from torch import Generator, Tensor, distributions, nn

from worldmodels.errors import UserError, check_at_least

Samples = Num[Tensor, "sample latent"]
OfFactors = Float[Tensor, "sample factor"]


class VariationalFamily(nn.Module):
    """Base class of variational families, which return samples and the factors' log-probabilities.

    A subclass defines `rsample` if samples can carry a gradient to the parameters; otherwise the
    subclass defines `sample`. A subclass also defines either `log_prob` or `distribution`, and it
    defines `membership` if a factor has more than one latent. Factors must be independent of each
    other, because Rao-Blackwellization assumes their independence.
    """

    def __init__(self, num_latents: int) -> None:
        super().__init__()
        self.num_latents = num_latents
        check_at_least(1, self, "num_latents")

    @property
    def membership(self) -> Bool[Tensor, "factor latent"]:
        """True where a latent belongs to a factor; by default, each latent is its own factor."""
        return torch.eye(self.num_latents, dtype=torch.bool)

    @property
    def can_rsample(self) -> bool:
        """Whether samples carry a gradient, which the pathwise estimator needs."""
        return type(self).rsample is not VariationalFamily.rsample

    def rsample(self, num_samples: int, generator: Generator) -> Samples:
        """Return samples that are differentiable in the parameters.

        Raises: UserError if the family has no differentiable samples.
        """
        raise UserError(
            f"{type(self).__name__} has no reparameterised samples: "
            'use the method "score" or "rao-blackwell"'
        )

    @torch.no_grad()
    def sample(self, num_samples: int, generator: Generator) -> Samples:
        """Return samples without a gradient."""
        return self.rsample(num_samples, generator)

    def log_prob(self, z: Samples) -> OfFactors:
        """Return each factor's log-density or log-probability at z, in nats.

        By default, each latent is a factor of its own.
        """
        return self.distribution().log_prob(z)

    def distribution(self) -> distributions.Distribution:
        """Return q as a torch distribution; a mean-field family has one batch entry per latent."""
        raise NotImplementedError


class MeanFieldGaussian(VariationalFamily):
    """Independent normal distributions, initialized to the standard normal."""

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.mean = nn.Parameter(torch.zeros(num_latents))
        self.log_scale = nn.Parameter(torch.zeros(num_latents))

    def distribution(self) -> distributions.Normal:
        """Return q as a torch distribution, with one batch entry per latent."""
        return distributions.Normal(self.mean, self.log_scale.exp(), validate_args=False)

    def rsample(self, num_samples: int, generator: Generator) -> Samples:
        """Return mean + scale * noise, where the noise is standard normal."""
        return self.mean + self.log_scale.exp() * _noise(num_samples, self.mean, generator)


class FullCovarianceGaussian(VariationalFamily):
    """One normal distribution over all latents, initialized to the standard normal distribution.

    The covariance is parameterized by its Cholesky decomposition. All latents are in one factor of
    q, so Rao-Blackwellization has no terms to leave out.
    """

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.mean = nn.Parameter(torch.zeros(num_latents))
        self.log_diagonal = nn.Parameter(torch.zeros(num_latents))
        self.below_diagonal = nn.Parameter(torch.zeros(num_latents * (num_latents - 1) // 2))

    @property
    def membership(self) -> Bool[Tensor, "factor latent"]:
        """True everywhere, because all latents are in one factor."""
        return torch.ones(1, self.num_latents, dtype=torch.bool)

    def scale_tril(self) -> Float[Tensor, "latent latent"]:
        """Return the Cholesky factor of the covariance.

        The Cholesky factor is a lower triangular matrix with a positive diagonal.
        """
        size = self.num_latents
        row, column = torch.tril_indices(size, size, -1, device=self.mean.device)
        return self.log_diagonal.exp().diag().index_put((row, column), self.below_diagonal)

    def distribution(self) -> distributions.MultivariateNormal:
        """Return q as a torch distribution."""
        tril = self.scale_tril()
        return distributions.MultivariateNormal(self.mean, scale_tril=tril, validate_args=False)

    def rsample(self, num_samples: int, generator: Generator) -> Samples:
        """Return mean + Cholesky factor @ noise, where the noise is standard normal."""
        return self.mean + _noise(num_samples, self.mean, generator) @ self.scale_tril().T

    def log_prob(self, z: Samples) -> OfFactors:
        """Return the log-density of the vector of all latents, in nats."""
        noise = torch.linalg.solve_triangular(self.scale_tril(), (z - self.mean).T, upper=False)
        normalizer = 0.5 * self.num_latents * math.log(2 * math.pi) + self.log_diagonal.sum()
        return cast(Tensor, (-0.5 * noise.square().sum(0) - normalizer)[:, None])


class MeanFieldBeta(VariationalFamily):
    """Independent Beta distributions on (0, 1), initialized to Beta(2, 2).

    The family does not start at the uniform Beta(1, 1), because samples of Beta(1, 1) come close to
    0 and 1, where log-joints are steep.
    """

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.log_alpha = nn.Parameter(torch.full((num_latents,), math.log(2.0)))
        self.log_beta = nn.Parameter(torch.full((num_latents,), math.log(2.0)))

    def distribution(self) -> distributions.Beta:
        """Return q as a torch distribution, with one batch entry per latent."""
        return distributions.Beta(self.log_alpha.exp(), self.log_beta.exp(), validate_args=False)

    def rsample(self, num_samples: int, generator: Generator) -> Samples:
        """Return a / (a + b) for two gamma variables a and b.

        The fraction a / (a + b) has a Beta distribution. The gamma variables are differentiated
        implicitly.
        """
        shape = (num_samples, self.num_latents)
        # torch.distributions.Gamma calls this function too, but takes no generator.
        first, second = (
            torch._standard_gamma(logarithm.exp().expand(shape), generator=generator)
            for logarithm in (self.log_alpha, self.log_beta)
        )
        limits = torch.finfo(first.dtype)
        fraction = first / (first + second).clamp(min=limits.tiny)
        return fraction.clamp(limits.tiny, 1 - limits.eps)  # the log-density is infinite at 0 and 1


class MeanFieldBernoulli(VariationalFamily):
    """Independent latents with the values 0.0 and 1.0, initialized to equal probabilities."""

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.logits = nn.Parameter(torch.zeros(num_latents))

    def distribution(self) -> distributions.Bernoulli:
        """Return q as a torch distribution, with one batch entry per latent."""
        return distributions.Bernoulli(logits=self.logits, validate_args=False)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: Generator) -> Samples:
        """Return zeros and ones as floats."""
        return torch.bernoulli(self.logits.sigmoid().expand(num_samples, -1), generator=generator)


class MeanFieldCategorical(VariationalFamily):
    """Independent latents with K values each, 0 to K - 1, initialized to equal probabilities."""

    def __init__(self, num_latents: int, num_values: int) -> None:
        super().__init__(num_latents)
        if num_values < 2:
            raise UserError(f"num_values must be at least 2, got {num_values}")
        self.logits = nn.Parameter(torch.zeros(num_latents, num_values))

    def distribution(self) -> distributions.Categorical:
        """Return q as a torch distribution, with one batch entry per latent."""
        return distributions.Categorical(logits=self.logits, validate_args=False)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: Generator) -> Samples:
        """Return samples from 0 to K - 1, as int64."""
        chances = self.logits.softmax(-1)
        return torch.multinomial(chances, num_samples, True, generator=generator).T


def _noise(num_samples: int, like: Float[Tensor, "latent"], generator: Generator) -> Samples:
    shape = (num_samples, len(like))
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
