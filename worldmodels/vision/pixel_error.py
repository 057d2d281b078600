"""V's error: a squared error that can have other weights on background and rare colors."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from worldmodels.vision.networks import Images

Color = tuple[int, int, int]
Mask = Bool[Tensor, "batch 1 height width"]
Weight = Float[Tensor, "batch 1 height width"]
PerFrame = Float[Tensor, "batch"]

COLOR_DISTANCE = 48
SURROUNDINGS = 5
COMMON_FRACTION = 0.95
MOST_COMMON_COLORS = 4


@dataclass(frozen=True, kw_only=True)
class ErrorConfig:
    """Weights of V's squared error.

    Attributes:
        background_weight: weight of the error on the commonest color; 1 is the normal weight.
        rare_weight: weight of the error on pixels with none of the common colors, such as curbs.
        common_colors: the common colors, 0..255, as found in the data; the commonest first.
    """

    background_weight: float = 1.0
    rare_weight: float = 1.0
    common_colors: tuple[Color, ...] = ((0, 0, 0),)


def common_colors(frames: UInt8[np.ndarray, "frames height width 3"]) -> tuple[Color, ...]:
    """Find the colors that nearly all pixels are close to, the commonest first.

    CarRacing has two common colors. The search counts pixels in cells of 16 levels per channel,
    and removes all pixels that are close to a color once it is found.
    """
    pixels = frames.reshape(-1, 3)
    found: list[Color] = []
    left = pixels
    while len(left) > (1 - COMMON_FRACTION) * len(pixels) and len(found) < MOST_COMMON_COLORS:
        keys = (left >> 4) @ np.array([256, 16, 1])
        commonest = np.bincount(keys, minlength=4096).argmax()
        red, green, blue = map(int, np.median(left[keys == commonest], axis=0))
        found.append((red, green, blue))
        distance = np.abs(left.astype(np.int16) - np.array(found[-1], np.int16)).max(1)
        left = left[distance > COLOR_DISTANCE]
    return tuple(found)


def foreground(images: Images, config: ErrorConfig) -> Mask:
    """Mark the pixels that do not have the commonest color, and their surroundings.

    In CarRacing the commonest color is grass, and it makes up most of a plain squared error. Road,
    curbs and car are only a few hundred of 4,096 pixels, but all that matters for driving.
    """
    apart = _unlike(images, config.common_colors[0]).float()
    return F.max_pool2d(apart, SURROUNDINGS, stride=1, padding=SURROUNDINGS // 2) > 0


def error_weight(images: Images, config: ErrorConfig) -> Weight:
    """Return `rare_weight` on rare colors, `background_weight` on background, and 1 elsewhere."""
    weight = torch.ones_like(images[:, :1])
    if config.background_weight != 1.0:
        weight.masked_fill_(~foreground(images, config), config.background_weight)
    if config.rare_weight != 1.0:
        weight.masked_fill_(rare(images, config), config.rare_weight)
    return weight


def rare(images: Images, config: ErrorConfig) -> Mask:
    """Mark the pixels with none of the common colors; in CarRacing these are curbs and car."""
    return torch.stack([_unlike(images, color) for color in config.common_colors]).all(0)


def _unlike(images: Images, color: Color) -> Mask:
    point = torch.tensor(color, device=images.device, dtype=images.dtype) / 255.0
    distance = (images - point[:, None, None]).abs().amax(1, keepdim=True)
    return distance > COLOR_DISTANCE / 255.0


def squared_error(images: Images, target: Images, weight: Weight | None = None) -> PerFrame:
    """Compute each frame's squared error, summed over pixels and channels; full scale is 1."""
    error = (images - target).square()
    if weight is not None:
        error = error * weight
    return error.flatten(1).sum(1)


def training_error(
    images: Images, target: Images, config: ErrorConfig
) -> tuple[PerFrame, PerFrame]:
    """Return the error that V is trained on, and the plain squared error without gradient."""
    even = config.background_weight == config.rare_weight == 1.0
    weight = None if even else error_weight(target, config)
    return squared_error(images, target, weight), squared_error(images.detach(), target)
