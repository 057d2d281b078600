"""Variational families q(z; lambda): independent factors, each over one or several latents.

Parameters are unconstrained (means, log-scales, logits), so any optimizer may move them.
"""

import math

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, distributions, nn

from worldmodels.errors import UserError


class VariationalFamily(nn.Module):
    """What a family has: samples, and the log-probability of each factor.

    A family of your own defines `sample` and `log_prob`; `rsample` where samples can carry a
    gradient to the parameters, and `membership` where a factor is more than one latent. Factors
    are independent of each other: Rao-Blackwellization rests on it.
    """

    def __init__(self, num_latents: int) -> None:
        super().__init__()
        if num_latents < 1:
            raise UserError(f"num_latents must be at least 1, got {num_latents}")
        self.num_latents = num_latents

    @property
    def membership(self) -> Bool[Tensor, "factor latent"]:
        """True where a latent belongs to a factor; here: each latent is a factor."""
        return torch.eye(self.num_latents, dtype=torch.bool)

    @property
    def can_rsample(self) -> bool:
        """Whether samples carry a gradient, so that the pathwise estimator works."""
        return type(self).rsample is not VariationalFamily.rsample

    def rsample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "sample latent"]:
        """Samples that are differentiable in the parameters.

        Raises: UserError in a family that has none.
        """
        raise UserError(
            f"{type(self).__name__} has no reparameterised samples: "
            'use the method "score" or "rao-blackwell"'
        )

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator) -> Num[Tensor, "sample latent"]:
        """Samples without a gradient."""
        return self.rsample(num_samples, generator)

    def log_prob(self, z: Num[Tensor, "sample latent"]) -> Float[Tensor, "sample factor"]:
        """Log-density or log-probability of each factor at z, in nats."""
        raise NotImplementedError


class MeanFieldGaussian(VariationalFamily):
    """Independent normals; starts at the standard normal."""

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.mean = nn.Parameter(torch.zeros(num_latents))
        self.log_scale = nn.Parameter(torch.zeros(num_latents))

    def distribution(self) -> distributions.Normal:
        """The same q as a torch distribution, with one batch entry per latent."""
        return distributions.Normal(self.mean, self.log_scale.exp(), validate_args=False)

    def rsample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "sample latent"]:
        """Mean + scale x standard normal noise."""
        return self.mean + self.log_scale.exp() * _noise(num_samples, self.mean, generator)

    def log_prob(self, z: Num[Tensor, "sample latent"]) -> Float[Tensor, "sample factor"]:
        """Of each latent."""
        result: Tensor = self.distribution().log_prob(z)
        return result


class FullCovarianceGaussian(VariationalFamily):
    """One normal over all latents, by its Cholesky factor; starts at the standard normal.

    A single factor, so Rao-Blackwellization has nothing to leave out.
    """

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.mean = nn.Parameter(torch.zeros(num_latents))
        self.log_diagonal = nn.Parameter(torch.zeros(num_latents))
        self.below_diagonal = nn.Parameter(torch.zeros(num_latents * (num_latents - 1) // 2))

    @property
    def membership(self) -> Bool[Tensor, "factor latent"]:
        """All latents in one factor."""
        return torch.ones(1, self.num_latents, dtype=torch.bool)

    def scale_tril(self) -> Float[Tensor, "latent latent"]:
        """The Cholesky factor of the covariance: lower triangle, positive diagonal."""
        row, column = torch.tril_indices(
            self.num_latents, self.num_latents, -1, device=self.mean.device
        )
        return self.log_diagonal.exp().diag().index_put((row, column), self.below_diagonal)

    def distribution(self) -> distributions.MultivariateNormal:
        """The same q as a torch distribution."""
        return distributions.MultivariateNormal(
            self.mean, scale_tril=self.scale_tril(), validate_args=False
        )

    def rsample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "sample latent"]:
        """Mean + Cholesky factor x standard normal noise."""
        return self.mean + _noise(num_samples, self.mean, generator) @ self.scale_tril().T

    def log_prob(self, z: Num[Tensor, "sample latent"]) -> Float[Tensor, "sample factor"]:
        """Of the whole vector."""
        noise = torch.linalg.solve_triangular(self.scale_tril(), (z - self.mean).T, upper=False)
        normalizer = 0.5 * self.num_latents * math.log(2 * math.pi) + self.log_diagonal.sum()
        result: Tensor = (-0.5 * noise.square().sum(0) - normalizer)[:, None]
        return result


class MeanFieldBeta(VariationalFamily):
    """Independent Beta distributions on (0, 1); starts at Beta(2, 2).

    The uniform Beta(1, 1) would do, but its samples come close to 0 and 1, where log-joints
    are steep.
    """

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.log_alpha = nn.Parameter(torch.full((num_latents,), math.log(2.0)))
        self.log_beta = nn.Parameter(torch.full((num_latents,), math.log(2.0)))

    def distribution(self) -> distributions.Beta:
        """The same q as a torch distribution, with one batch entry per latent."""
        return distributions.Beta(self.log_alpha.exp(), self.log_beta.exp(), validate_args=False)

    def rsample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "sample latent"]:
        """The share of one of two gamma variables, differentiated implicitly."""
        shape = (num_samples, self.num_latents)
        # What torch.distributions.Gamma calls; that one takes no generator.
        first, second = (
            torch._standard_gamma(logarithm.exp().expand(shape), generator=generator)
            for logarithm in (self.log_alpha, self.log_beta)
        )
        limits = torch.finfo(first.dtype)
        fraction = first / (first + second).clamp(min=limits.tiny)
        return fraction.clamp(limits.tiny, 1 - limits.eps)  # the log-density is infinite at 0 and 1

    def log_prob(self, z: Num[Tensor, "sample latent"]) -> Float[Tensor, "sample factor"]:
        """Of each latent."""
        result: Tensor = self.distribution().log_prob(z)
        return result


class MeanFieldBernoulli(VariationalFamily):
    """Independent latents of 0.0 and 1.0; starts at even chances."""

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.logits = nn.Parameter(torch.zeros(num_latents))

    def distribution(self) -> distributions.Bernoulli:
        """The same q as a torch distribution, with one batch entry per latent."""
        return distributions.Bernoulli(logits=self.logits, validate_args=False)

    @torch.no_grad()
    def sample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "sample latent"]:
        """Zeros and ones, as floats."""
        chance = self.logits.sigmoid().expand(num_samples, -1)
        return torch.bernoulli(chance, generator=generator)

    def log_prob(self, z: Num[Tensor, "sample latent"]) -> Float[Tensor, "sample factor"]:
        """Of each latent."""
        result: Tensor = self.distribution().log_prob(z)
        return result


class MeanFieldCategorical(VariationalFamily):
    """Independent latents of K values each, 0 to K - 1; starts at even chances."""

    def __init__(self, num_latents: int, num_values: int) -> None:
        super().__init__(num_latents)
        if num_values < 2:
            raise UserError(f"num_values must be at least 2, got {num_values}")
        self.logits = nn.Parameter(torch.zeros(num_latents, num_values))

    def distribution(self) -> distributions.Categorical:
        """The same q as a torch distribution, with one batch entry per latent."""
        return distributions.Categorical(logits=self.logits, validate_args=False)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator) -> Int[Tensor, "sample latent"]:
        """Indices of values, as int64."""
        chances = self.logits.softmax(-1)
        return torch.multinomial(chances, num_samples, True, generator=generator).T

    def log_prob(self, z: Num[Tensor, "sample latent"]) -> Float[Tensor, "sample factor"]:
        """Of each latent."""
        result: Tensor = self.distribution().log_prob(z)
        return result


def _noise(
    num_samples: int, like: Float[Tensor, "latent"], generator: torch.Generator
) -> Float[Tensor, "sample latent"]:
    shape = (num_samples, len(like))
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
