"""Gradients of samples from Gaussian mixtures with respect to all parameters of the mixtures.

Each dimension has a separate mixture, so the cumulative distribution function F of a mixture is a
function of one number. The gradient of a sample z follows from the condition that F(z) stays
constant when the parameters theta change:

    dz/dtheta = -(dF/dtheta)(z) / p(z)

Here p is the density of the mixture. A simpler method would keep the component of the sample
constant instead of F(z). The sample would then depend on one Gaussian alone, and the gradient would
leave out the weights of the mixture.

Source: implicit reparameterization, arXiv 1805.08498, equation 5 and section 3.2.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Samples = Float[Tensor, "*batch"]
Mixtures = Float[Tensor, "*batch mixture"]


class _ImplicitSample(torch.autograd.Function):
    """Returns samples unchanged, but differentiable in the parameters of their mixtures."""

    @staticmethod
    def forward(ctx: Any, temperature: float, sample: Tensor, *mixture: Tensor) -> Tensor:
        ctx.save_for_backward(sample, *mixture)
        ctx.temperature = temperature
        return sample.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sample, log_pi, mu, log_sigma = ctx.saved_tensors
        derivatives = sample_derivatives(sample, log_pi, mu, log_sigma, ctx.temperature)
        return (None, None, *(gradient[..., None] * each for each in derivatives))


def attach_gradient(
    sample: Samples, log_pi: Mixtures, mu: Mixtures, log_sigma: Mixtures, temperature: float
) -> Samples:
    """Make samples differentiable in the parameters of the mixtures from which they were drawn.

    Args:
        temperature: divides the logits of the mixtures and multiplies the variances.
    """
    attached: Tensor = _ImplicitSample.apply(temperature, sample, log_pi, mu, log_sigma)  # type: ignore[no-untyped-call]
    return attached


def sample_derivatives(
    sample: Samples, log_pi: Mixtures, mu: Mixtures, log_sigma: Mixtures, temperature: float
) -> tuple[Mixtures, Mixtures, Mixtures]:
    """Compute the derivatives of the samples with respect to log_pi, mu and log_sigma.

    The derivative with respect to log_pi is large where a sample lies between two components that
    are far apart. However, such samples are rare: the product of density and derivative is not
    large.
    """
    weights = (log_pi - log_pi.amax(-1, keepdim=True)).div(temperature).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    inverse_width = (-log_sigma).exp() / math.sqrt(temperature)
    deviation = (sample[..., None] - mu) * inverse_width
    densities = weights * inverse_width * (-0.5 * deviation.square()).exp()
    densities = densities / math.sqrt(2.0 * math.pi)
    density = densities.sum(-1, keepdim=True).clamp(min=torch.finfo(densities.dtype).tiny)
    towards_mu = densities / density
    towards_log_sigma = towards_mu * (sample[..., None] - mu)
    # `lag` is F minus each component's own F. If F is near 1, 1 - F loses its digits to rounding,
    # so the smaller of the two tails is used.
    tail = upper_tail(deviation.abs())
    below = torch.where(deviation < 0, tail, 1.0 - tail)
    above = torch.where(deviation < 0, 1.0 - tail, tail)
    all_below = (weights * below).sum(-1, keepdim=True)
    all_above = (weights * above).sum(-1, keepdim=True)
    lag = torch.where(all_below < all_above, all_below - below, above - all_above)
    towards_log_pi = weights * lag / (density * temperature)
    return towards_log_pi, towards_mu, towards_log_sigma


# erfc(x) = t exp(-x^2 + polynomial in t), t = 1 / (1 + x / 2).
# fmt: off
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)
# fmt: on


def upper_tail(deviation: Samples) -> Samples:
    """Compute the probability that a standard normal number exceeds `deviation`.

    `deviation` must be 0 or more. In float32 the relative error of the result stays below 1e-5 up
    to a deviation of 6. At a deviation of 6, the formula 1 - erf would round to 0. The function
    uses only operations that every device has.

    Source: Press et al., Numerical Recipes, 2nd edition, section 6.2 (function erfcc).
    """
    x = deviation / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * x)
    power = torch.full_like(t, _ERFC[-1])
    for coefficient in reversed(_ERFC[:-1]):
        power = power * t + coefficient
    return 0.5 * t * (power - x.square()).exp()
