"""Noise that copies of a batch share, so that candidates meet the same noise."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def shared_noise(
    draw: Callable[..., Tensor],
    like: Shaped[Tensor, "batch *rest"],
    generator: torch.Generator | None,
    num_candidates: int,
) -> Float[Tensor, "batch *rest"]:
    """`torch.rand` or `torch.randn` noise of the shape of `like`, equal in each of its blocks.

    Common random numbers: 64 candidates dreaming from one moment differ by what they do, not by
    what happens to them. It also takes 64 times fewer random numbers.

    Args:
        copies: the batch is so many blocks of one size, one after the other.
    """
    block = (like.shape[0] // num_candidates, *like.shape[1:])
    noise = draw(block, generator=generator, device=like.device)
    return noise if num_candidates == 1 else noise.repeat(num_candidates, *[1] * (like.dim() - 1))
