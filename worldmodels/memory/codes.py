"""Conversion of codes to digits, and sampling from categorical distributions, for M over codes."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Generator, Tensor

from worldmodels.memory.noise import shared_noise

FEW_VALUES = 32
Codes = Int[Tensor, "*batch code"]
Logits = Float[Tensor, "*batch value"]
Values = Int[Tensor, "*batch"]


def to_digits(codes: Values, sizes: tuple[int, ...]) -> Int[Tensor, "*batch digit"]:
    """Convert code indices to digits of the given sizes; the first digit changes fastest."""
    digits, rest = [], codes
    for size in sizes:
        digits.append(rest % size)
        rest = rest // size
    return torch.stack(digits, -1)


def from_digits(digits: Int[Tensor, "*batch digit"], sizes: tuple[int, ...]) -> Values:
    """Convert digits to code indices, as the inverse of `to_digits`."""
    codes, stride = digits[..., 0], sizes[0]
    for digit, size in enumerate(sizes[1:], start=1):
        codes = torch.add(codes, digits[..., digit], alpha=stride)
        stride *= size
    return codes


def uniforms(
    like: Shaped[Tensor, "batch *rest"], generator: Generator | None, num_candidates: int
) -> Float[Tensor, "batch *rest"]:
    """Draw uniform noise for `inverse_cdf`, of the same shape as `like`.

    The batch consists of one block of equal size per candidate, and all blocks get the same noise.
    No number is 0, because 0 would select the first value even if its probability is 0.
    """
    return shared_noise(torch.rand, like, generator, num_candidates).clamp_(min=2.0**-25)


def sample_categorical(
    logits: Logits,
    temperature: float = 1.0,
    generator: Generator | None = None,
    num_candidates: int = 1,
) -> Values:
    """Sample one value per row; at temperature 0 the likeliest value is taken.

    The batch consists of `num_candidates` blocks of equal size, and row i of every block gets the
    same noise.
    """
    if temperature <= 0 or logits.shape[-1] == 1:
        return logits.argmax(-1)
    uniform = uniforms(logits[..., 0], generator, num_candidates)
    return inverse_cdf(uniform, logits.clone(), temperature)


@torch.no_grad()
def inverse_cdf(uniform: Float[Tensor, "*batch"], logits: Logits, temperature: float) -> Values:
    """Return the first value at which the cumulative probability reaches `uniform`.

    At temperature 0 the likeliest value is returned.

    The tensor `logits` may be overwritten, because that saves time. With 256 values per code, the
    logits of a group of codes take 4 MB. Sampling in place then takes 12 ms per agent step, and
    sampling in newly allocated memory takes 21 ms.
    """
    if temperature <= 0:
        return logits.argmax(-1)
    side = round(logits.shape[-1] ** 0.5)
    few = logits.shape[-1] <= FEW_VALUES or side * side != logits.shape[-1]
    # This takes 0.2 ms over a handful of values, and torch's softmax takes 2.0 ms.
    largest = logits.amax(-1, keepdim=True)
    weights = logits - largest if few else logits.sub_(largest)
    if temperature != 1.0:
        weights.div_(temperature)
    weights.exp_()
    uniform_column = uniform[..., None]
    if few:
        cumulative = weights.cumsum(-1)
        return _place(uniform_column * cumulative[..., -1:], cumulative)
    # The values form a square: first its row is selected, then the value within the row. A
    # cumulative sum over all values would take most of a dream's step.
    square = weights.unflatten(-1, (side, side))
    sums = square @ square.new_ones(side)  # takes half the time of sum(-1)
    cumulative = sums.cumsum(-1)
    target = uniform_column * cumulative[..., -1:]
    row = _place(target, cumulative)
    left = target - (cumulative - sums).gather(-1, row[..., None])
    first = torch.arange(0, row.numel() * side, side, device=row.device)
    # index_select takes 0.02 ms, gather 0.11 ms.
    chosen = square.reshape(-1, side).index_select(0, first + row.flatten()).view_as(sums)
    within = chosen.cumsum(-1)
    # Because of rounding, `left` may be slightly negative, or exceed the sum of the row.
    left = torch.minimum(left.clamp(min=torch.finfo(left.dtype).tiny), within[..., -1:])
    return row.mul(side).add(_place(left, within))


def _place(target: Float[Tensor, "*batch 1"], cumulative: Float[Tensor, "*batch value"]) -> Values:
    """Return the first value whose cumulative weight reaches the target, else the last value."""
    return (target > cumulative[..., :-1]).sum(-1)


def log_sum_exp(logits: Logits) -> Float[Tensor, "*batch"]:
    """Compute the same as torch.logsumexp, but 4 times as fast over a handful of values."""
    largest = logits.detach().amax(-1, keepdim=True)
    return (logits - largest).exp().sum(-1).log() + largest[..., 0]
