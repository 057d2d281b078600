"""Common random numbers: noise that is the same for all candidates of a batch."""

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
    """Draw `torch.rand` or `torch.randn` noise shaped as `like`, equal in each of its blocks.

    The dreams of 64 candidates from one start state then differ only by their actions. They also
    need 64 times fewer random numbers.

    Args:
        num_candidates: the batch consists of this many consecutive blocks of equal size.
    """
    block = (like.shape[0] // num_candidates, *like.shape[1:])
    noise = draw(block, generator=generator, device=like.device)
    return noise if num_candidates == 1 else noise.repeat(num_candidates, *[1] * (like.dim() - 1))
