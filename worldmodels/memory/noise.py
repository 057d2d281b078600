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
    """Draw noise with the shape of `like`.

    The batch consists of one block of equal size per candidate, and all blocks get the same noise.
    With the same noise, the dreams of several candidates from one start state differ only because
    the candidates choose different actions. Noise that 64 candidates share also needs only 1/64 of
    the random numbers of separate noise.

    Args:
        draw: `torch.rand` or `torch.randn`.
        num_candidates: number of candidates, which is the number of blocks in the batch.
    """
    block = (like.shape[0] // num_candidates, *like.shape[1:])
    noise = draw(block, generator=generator, device=like.device)
    return noise if num_candidates == 1 else noise.repeat(num_candidates, *[1] * (like.dim() - 1))
