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
    """Draw noise with the shape of `like` that is the same in each of `num_candidates` blocks.

    With the same noise, the dreams of 64 candidates from one start state differ only by the actions
    of the candidates. Equal noise for 64 candidates also takes 64 times fewer random numbers than
    separate noise.

    Args:
        draw: `torch.rand` or `torch.randn`.
        num_candidates: number of consecutive blocks of equal size in the batch.
    """
    block = (like.shape[0] // num_candidates, *like.shape[1:])
    noise = draw(block, generator=generator, device=like.device)
    return noise if num_candidates == 1 else noise.repeat(num_candidates, *[1] * (like.dim() - 1))
