"""Small factored models for inference, with exact results where a closed form exists."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Generator, Tensor, distributions
from torch.nn import functional

from worldmodels.bbvi.families import MeanFieldGaussian
from worldmodels.bbvi.joint import FactoredJoint
from worldmodels.errors import UserError

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class BetaBernoulli:
    """A model of throws of a coin; the only latent z is the probability that the coin shows 1.

    Source: the first example of Pyro's SVI tutorial, which has the prior Beta(10, 10), six ones and
    four zeros.
    """

    prior_alpha: float = 10.0
    prior_beta: float = 10.0
    num_ones: int = 6
    num_zeros: int = 4

    @property
    def joint(self) -> FactoredJoint:
        """Log-joint with two terms: the prior and the throws."""
        return FactoredJoint(self._terms, torch.ones(1, 2, dtype=torch.bool))

    def _terms(self, z: Float[Tensor, "sample latent"]) -> Float[Tensor, "sample term"]:
        one, zero = z.log(), torch.log1p(-z)
        normalizer = _log_beta_function(self.prior_alpha, self.prior_beta)
        prior = (self.prior_alpha - 1) * one + (self.prior_beta - 1) * zero - normalizer
        return torch.cat([prior, self.num_ones * one + self.num_zeros * zero], 1)

    @property
    def posterior(self) -> distributions.Beta:
        """Exact posterior, Beta(16, 14) by default."""
        alpha, beta = self._posterior_parameters
        return distributions.Beta(torch.tensor([alpha]), torch.tensor([beta]))

    @property
    def log_evidence(self) -> float:
        """Exact log-probability of the sequence of throws, in nats."""
        prior = _log_beta_function(self.prior_alpha, self.prior_beta)
        return _log_beta_function(*self._posterior_parameters) - prior

    @property
    def _posterior_parameters(self) -> tuple[float, float]:
        return self.prior_alpha + self.num_ones, self.prior_beta + self.num_zeros


@dataclass(frozen=True)
class _Regression(ABC):
    """A regression with weights z ~ N(0, I); each row's target depends on the row's inputs @ z."""

    inputs: Float[Tensor, "row latent"]
    targets: Float[Tensor, "row"]

    @property
    def joint(self) -> FactoredJoint:
        """Log-joint with one prior term per weight and one likelihood term per row.

        Each likelihood term involves every weight.
        """
        num_rows, num_latents = self.inputs.shape
        rows = torch.ones(num_latents, num_rows, dtype=torch.bool)
        return FactoredJoint(self._terms, torch.cat([torch.eye(num_latents).bool(), rows], 1))

    def _terms(self, z: Num[Tensor, "sample latent"]) -> Float[Tensor, "sample term"]:
        prior = log_normal(z.square())
        return torch.cat([prior, self._log_likelihood(z @ self.inputs.to(z.dtype).T)], 1)

    @abstractmethod
    def _log_likelihood(
        self, predicted: Float[Tensor, "sample row"]
    ) -> Float[Tensor, "sample row"]:
        """Return the log-likelihood of each row's target, in nats."""


@dataclass(frozen=True)
class LinearRegression(_Regression):
    """Linear regression: weights z ~ N(0, I), targets ~ N(inputs @ z, noise^2).

    The posterior is a Gaussian with a full covariance matrix.
    """

    noise: float

    @classmethod
    def synthetic(cls) -> "LinearRegression":
        """Draw correlated inputs, so that the posterior's covariance is far from diagonal."""
        generator = Generator().manual_seed(0)
        inputs, predicted = _correlated_inputs(20, generator)
        return cls(inputs, predicted + 0.7 * torch.randn(20, generator=generator), 0.7)

    def _log_likelihood(self, predicted: Float[Tensor, "sample row"]) -> Tensor:
        error = (self.targets - predicted) / self.noise
        return log_normal(error.square()) - math.log(self.noise)

    @property
    def posterior(self) -> distributions.MultivariateNormal:
        """Exact posterior, in double precision."""
        inputs, targets = self.inputs.double(), self.targets.double()
        eye = torch.eye(inputs.shape[1], dtype=torch.float64)
        precision = eye + inputs.T @ inputs / self.noise**2
        mean = torch.linalg.solve(precision, inputs.T @ targets / self.noise**2)
        return distributions.MultivariateNormal(mean, precision_matrix=precision)

    @property
    def log_evidence(self) -> float:
        """Exact log p(targets), in nats."""
        inputs, targets = self.inputs.double(), self.targets.double()
        covariance = inputs @ inputs.T + self.noise**2 * torch.eye(len(targets))
        marginal = distributions.MultivariateNormal(torch.zeros_like(targets), covariance)
        return float(marginal.log_prob(targets))


@dataclass(frozen=True)
class LogisticRegression(_Regression):
    """Logistic regression: weights z ~ N(0, I), targets ~ Bernoulli(sigmoid(inputs @ z)).

    The posterior has no closed form and is skewed; `mcmc.hmc` draws samples from the posterior. The
    best Gaussian matches the posterior's means and standard deviations within 3 %. The k-hat of the
    best Gaussian is nevertheless 0.7 to 0.9, because importance weights also depend on the tails.
    """

    @classmethod
    def synthetic(cls, num_rows: int = 200) -> "LogisticRegression":
        """Draw correlated inputs, random weights, and targets from the model with these weights."""
        generator = Generator().manual_seed(0)
        inputs, predicted = _correlated_inputs(num_rows, generator)
        return cls(inputs, torch.bernoulli(predicted.sigmoid(), generator=generator))

    def _log_likelihood(self, predicted: Float[Tensor, "sample row"]) -> Tensor:
        return self.targets * predicted - functional.softplus(predicted)


@dataclass(frozen=True)
class HierarchicalPoisson:
    """A model of the counts of groups, whose log-rates z_i share the mean z_0.

        z_0 ~ N(0, 2^2)    z_i ~ N(z_0, 1)    counts_i ~ Poisson(exp(z_i))

    The latents are z_0 and one z_i per group. Each z_i occurs in only two terms of the log-joint,
    so Rao-Blackwellization leaves out most terms for z_i. z_0 occurs in about half of the terms.
    """

    counts: Float[Tensor, "group"]

    PRIOR_SCALE = 2.0

    def __post_init__(self) -> None:
        if (self.counts < 0).any():
            raise UserError("counts must not be negative")

    @classmethod
    def synthetic(cls, num_latents: int = 20) -> "HierarchicalPoisson":
        """Draw the counts of `num_latents` - 1 groups from the model with z_0 = 1."""
        generator = Generator().manual_seed(0)
        log_rate = 1.0 + torch.randn(num_latents - 1, generator=generator)
        return cls(torch.poisson(log_rate.exp(), generator=generator))

    @property
    def num_latents(self) -> int:
        """Number of latents, which are the mean and one log-rate per group."""
        return len(self.counts) + 1

    @property
    def joint(self) -> FactoredJoint:
        """Log-joint with one term for the prior of each latent and one term for each count."""
        groups = len(self.counts)
        involves = torch.zeros(groups + 1, 2 * groups + 1, dtype=torch.bool)
        involves[0, : groups + 1] = True
        involves[1:, 1:] = torch.eye(groups).repeat(1, 2)
        return FactoredJoint(self._terms, involves)

    def _terms(self, z: Float[Tensor, "sample latent"]) -> Float[Tensor, "sample term"]:
        mean, log_rate = z[:, :1], z[:, 1:]
        top = log_normal(mean.square(), self.PRIOR_SCALE)
        group = log_normal((log_rate - mean).square())
        count = self.counts * log_rate - log_rate.exp() - torch.lgamma(self.counts + 1)
        return torch.cat([top, group, count], 1)

    def exact_elbo(self, family: MeanFieldGaussian) -> Float[Tensor, ""]:
        """Return the ELBO of a mean-field Gaussian, in nats; the closed form is differentiable.

        The closed form uses E[(z_i - z_0)^2] = (m_i - m_0)^2 + s_i^2 + s_0^2 and E[exp(z)] = exp(m
        + s^2 / 2), where m and s are the means and standard deviations of q.
        """
        mean, variance = family.mean, (2 * family.log_scale).exp()
        local, spread = mean[1:], variance[1:]
        top = log_normal(mean[0].square() + variance[0], self.PRIOR_SCALE)
        group = log_normal((local - mean[0]).square() + spread + variance[0])
        count = self.counts * local - (local + spread / 2).exp() - torch.lgamma(self.counts + 1)
        entropy = family.log_scale + 0.5 * (LOG_2PI + 1)
        return top + group.sum() + count.sum() + entropy.sum()


def log_normal(square: Tensor, scale: float = 1.0) -> Tensor:
    """Return a normal log-density, in nats, from the squared distance to the mean."""
    return -0.5 * (square / scale**2 + LOG_2PI) - math.log(scale)


def _log_beta_function(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)


def _correlated_inputs(
    num_rows: int, generator: Generator
) -> tuple[Float[Tensor, "row latent"], Float[Tensor, "row"]]:
    """Draw correlated inputs for five weights; return the inputs and inputs @ random weights."""
    shared = torch.randn(num_rows, 1, generator=generator)
    inputs = 0.6 * shared + 0.8 * torch.randn(num_rows, 5, generator=generator)
    return inputs, inputs @ torch.randn(5, generator=generator)
