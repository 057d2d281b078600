"""Noise that copies of a batch share, so that candidates meet the same luck."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def shared_noise(
    draw: Callable[..., Tensor],
    like: Shaped[Tensor, "batch *rest"],
    generator: torch.Generator | None,
    copies: int,
) -> Float[Tensor, "batch *rest"]:
    """`torch.rand` or `torch.randn` noise of the shape of `like`, equal in each of its blocks.

    Common random numbers: 64 candidates dreaming from one moment differ by what they do, not by
    what happens to them. It also takes 64 times fewer random numbers.

    Args:
        copies: the batch is so many blocks of one size, one after the other.
    """
    block = (like.shape[0] // copies, *like.shape[1:])
    noise = draw(block, generator=generator, device=like.device)
    return noise if copies == 1 else noise.repeat(copies, *[1] * (like.dim() - 1))
