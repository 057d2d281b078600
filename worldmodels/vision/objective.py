"""V's error: a squared error that can weigh what stands out more."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

Color = tuple[int, int, int]

COLOR_DISTANCE = 48
SURROUNDINGS = 5
COMMON_FRACTION = 0.95
MOST_COMMON_COLORS = 4


@dataclass(frozen=True, kw_only=True)
class ErrorConfig:
    """Weights of V's squared error.

    Attributes:
        background_weight: weight of the error on the commonest color; 1 weighs all alike.
        rare_weight: weight of the error on pixels of none of the common colors, such as curbs.
        common_colors: the common colors, 0..255, as found in the data; the commonest first.
    """

    background_weight: float = 1.0
    rare_weight: float = 1.0
    common_colors: tuple[Color, ...] = ((0, 0, 0),)


def common_colors(frames: UInt8[np.ndarray, "frames height width 3"]) -> tuple[Color, ...]:
    """The colors that nearly all pixels are close to, the commonest first; in CarRacing two.

    Found over cells of 16 levels per channel; each color takes all pixels around it with it.
    """
    pixels = frames.reshape(-1, 3)
    found: list[Color] = []
    left = pixels
    while len(left) > (1 - COMMON_FRACTION) * len(pixels) and len(found) < MOST_COMMON_COLORS:
        cells = (left >> 4).astype(np.int64)
        keys = cells[:, 0] * 256 + cells[:, 1] * 16 + cells[:, 2]
        commonest = np.bincount(keys, minlength=4096).argmax()
        red, green, blue = (int(value) for value in np.median(left[keys == commonest], axis=0))
        found.append((red, green, blue))
        distance = np.abs(left.astype(np.int16) - np.array(found[-1], np.int16)).max(1)
        left = left[distance > COLOR_DISTANCE]
    return tuple(found)


def foreground(
    images: Float[Tensor, "batch 3 height width"], config: ErrorConfig
) -> Bool[Tensor, "batch 1 height width"]:
    """Whatever is not of the commonest color, and its surroundings.

    In CarRacing that color is grass: it makes up most of a plain squared error, while road, curbs
    and car are a few hundred of 4,096 pixels and all that matters to driving.
    """
    apart = _unlike(images, config.common_colors[0]).float()
    return F.max_pool2d(apart, SURROUNDINGS, stride=1, padding=SURROUNDINGS // 2) > 0


def error_weight(
    images: Float[Tensor, "batch 3 height width"], config: ErrorConfig
) -> Float[Tensor, "batch 1 height width"]:
    """`rare_weight` on what is rare, `background_weight` far from all foreground, 1 between."""
    weight = torch.ones_like(images[:, :1])
    if config.background_weight != 1.0:
        weight.masked_fill_(~foreground(images, config), config.background_weight)
    if config.rare_weight != 1.0:
        weight.masked_fill_(rare(images, config), config.rare_weight)
    return weight


def rare(
    images: Float[Tensor, "batch 3 height width"], config: ErrorConfig
) -> Bool[Tensor, "batch 1 height width"]:
    """Pixels of none of the common colors: in CarRacing curbs and car."""
    mask = _unlike(images, config.common_colors[0])
    for color in config.common_colors[1:]:
        mask &= _unlike(images, color)
    return mask


def _unlike(
    images: Float[Tensor, "batch 3 height width"], color: Color
) -> Bool[Tensor, "batch 1 height width"]:
    point = torch.tensor(color, device=images.device, dtype=images.dtype) / 255.0
    distance = (images - point[:, None, None]).abs().amax(1, keepdim=True)
    return distance > COLOR_DISTANCE / 255.0


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
    """The error that V is trained on, and the plain squared error, without gradient."""
    squares = (images - target).square()
    plain = squares.detach().flatten(1).sum(1)
    if (config.background_weight, config.rare_weight) != (1.0, 1.0):
        squares = squares * error_weight(target, config)
    return squares.flatten(1).sum(1), plain
