"""The score-function gradient of an expectation, and control variates that reduce its variance.

    d E_q[f(z)] = E_q[(f(z) - a) d log q(z)]     for any a that is independent of z

f may be any function, for example a program or a reward, because only log q is differentiated.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.bbvi.families import OfFactors
from worldmodels.errors import UserError, check_choice

Scores = Float[Tensor, "sample factor parameter"]


def score_surrogate(
    log_q: Float[Tensor, "sample *factor"],
    signal: Float[Tensor, "sample *factor"],
    control: str = "leave-one-out",
) -> Float[Tensor, ""]:
    """Return a scalar whose gradient is the score-function estimate of d E_q[signal].

    The scalar's value has no meaning. The gradient is averaged over samples and summed over
    factors.

    Args:
        log_q: log-probability, in nats, of each sample under each factor, with its autograd graph.
        signal: the values to maximize, one per sample and factor. The signal is treated as a
            constant.
        control: "leave-one-out" subtracts the mean signal of all other samples from each sample's
            signal. The gradient stays unbiased, because the samples are independent of each other.
            "none" subtracts nothing.

    Raises: UserError if `control` is unknown, or if it is "leave-one-out" and there is only one
    sample.

    Source: arXiv 1401.0118, 2.2. "leave-one-out": Kool, van Hoof & Welling, "Buy 4 REINFORCE
    samples, get a baseline for free!" (2019).
    """
    check_choice("control", control, ("none", "leave-one-out"))
    signal = signal.detach()
    if control == "leave-one-out":
        num_samples = len(signal)
        if num_samples < 2:
            raise UserError(
                f'control "leave-one-out" needs at least 2 samples, got {num_samples}: '
                'take more samples, or use control="none"'
            )
        # f - mean of the others = (f - mean of all) S / (S - 1)
        signal = (signal - signal.mean(0)) * (num_samples / (num_samples - 1))
    return (log_q * signal).mean(0).sum()


def scores(log_q: OfFactors, parameters: Iterable[nn.Parameter]) -> Scores:
    """Return each score d log q, which is the gradient of one entry of `log_q` in the parameters.

    The function needs one batched backward pass for any family. Memory grows with the square of
    samples x factors, so the function is meant for tens of samples. The graph of `log_q` is kept.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    num_samples, num_factors = log_q.shape
    one_hot = torch.eye(log_q.numel(), dtype=log_q.dtype, device=log_q.device)
    gradients = torch.autograd.grad(
        log_q,
        parameters,
        one_hot.view(-1, num_samples, num_factors),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
    )
    flat = [
        log_q.new_zeros(log_q.numel(), parameter.numel()) if g is None else g.flatten(1)
        for parameter, g in zip(parameters, gradients, strict=True)
    ]
    return torch.cat(flat, 1).view(num_samples, num_factors, -1)


def fitted_baseline(score: Scores, signal: OfFactors) -> OfFactors:
    """Return the paper's a* = Cov(f, h) / Var(h), fitted for each sample on all other samples.

    h is the score, and f = h * signal. There is one a* per factor: covariances and variances are
    summed over the parameters. Subtract the returned a* from the signal. a* is 0 if the other
    samples do not vary, for example if a discrete factor has the same value in all of them.

    Raises: UserError if there are fewer than 3 samples: the baseline of a sample is fitted to the
    other samples, and a variance needs at least 2 of them.

    Source: arXiv 1401.0118, 3.2 and algorithm 2. Differs: the paper fits a* on the same samples
    that a* corrects, which biases the gradient of S samples by O(1/S). Leaving each sample out of
    its own fit removes this bias. Then a* and h are independent, so that E[a* h] = E[a*] E[h] = 0.
    """
    num_samples = len(signal)
    if num_samples < 3:
        raise UserError(
            f'control "fitted" needs at least 3 samples, got {num_samples}: '
            'take more samples, or use control="leave-one-out"'
        )
    signal = signal.detach()
    h = score - score.mean(0)  # centring h and f reduces cancellation in the sums below
    f = score * signal[..., None]
    f = f - f.mean(0)
    others = num_samples - 1

    def covariance_of_others(x: Tensor, y: Tensor) -> Tensor:
        products = (x * y).sum(0) - x * y
        return (products - (x.sum(0) - x) * (y.sum(0) - y) / others).sum(-1)

    variance = covariance_of_others(h, h)
    squares = score.square().sum(-1)
    # Rounding leaves a variance of about this size where the other samples are all equal.
    nothing = 1e2 * torch.finfo(squares.dtype).eps * (squares.sum(0) - squares).clamp(min=1e-30)
    covariance = covariance_of_others(f, h)
    return torch.where(variance > nothing, covariance / variance.clamp(min=1e-30), 0.0)
