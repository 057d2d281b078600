"""What V is asked to get right: a squared error that can look harder at what stands out."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

COLOUR_DISTANCE = 48.0
SURROUNDINGS = 5


@dataclass(frozen=True, kw_only=True)
class ErrorConfig:
    """Where V's error counts.

    Attributes:
        background_weight: weight of the error on the commonest colour; 1 weighs all alike.
        background: the colour meant, 0..255, as found in the data.
    """

    background_weight: float = 1.0
    background: tuple[int, int, int] = (0, 0, 0)


def background_colour(frames: UInt8[np.ndarray, "frames height width 3"]) -> tuple[int, int, int]:
    """The commonest colour of the frames, found over cells of 16 levels a channel."""
    cells = (frames.reshape(-1, 3) >> 4).astype(np.int64)
    keys = cells[:, 0] * 256 + cells[:, 1] * 16 + cells[:, 2]
    commonest = np.bincount(keys, minlength=4096).argmax()
    inside = frames.reshape(-1, 3)[keys == commonest]
    red, green, blue = (int(value) for value in np.median(inside, axis=0))
    return red, green, blue


def foreground_weight(
    images: Float[Tensor, "batch 3 height width"],
    background: Iterable[float],
    background_weight: float,
) -> Float[Tensor, "batch 1 height width"]:
    """1 on whatever is not the background colour and on its surroundings, less elsewhere.

    In CarRacing the background is grass: a plain squared error spends itself there, while road,
    curbs and car are a few hundred of 4,096 pixels and all that matters to driving.
    """
    colour = torch.tensor([*background], device=images.device, dtype=images.dtype) / 255.0
    distance = (images - colour[None, :, None, None]).abs().amax(1, keepdim=True)
    foreground = (distance > COLOUR_DISTANCE / 255.0).float()
    near = F.max_pool2d(foreground, SURROUNDINGS, stride=1, padding=SURROUNDINGS // 2)
    return background_weight + (1.0 - background_weight) * near


def squared_error(
    images: Float[Tensor, "batch 3 height width"],
    target: Float[Tensor, "batch 3 height width"],
    weight: Float[Tensor, "batch 1 height width"] | None = None,
) -> Float[Tensor, "batch"]:
    """Squared error of each frame, summed over its pixels and channels; full scale is 1."""
    error = (images - target).square()
    if weight is not None:
        error = error * weight
    return error.flatten(1).sum(1)


def training_error(
    images: Float[Tensor, "batch 3 height width"],
    target: Float[Tensor, "batch 3 height width"],
    config: ErrorConfig,
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """The error V is trained on, and beside it the plain squared error, without gradient.

    The first counts all of the foreground and `background_weight` of the rest.
    """
    squares = (images - target).square()
    plain = squares.detach().flatten(1).sum(1)
    if config.background_weight != 1.0:
        squares = squares * foreground_weight(target, config.background, config.background_weight)
    return squares.flatten(1).sum(1), plain
