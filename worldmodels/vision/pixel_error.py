"""V's squared error, with weights that prevent V from ignoring small moving objects."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.data.batches import FrameBatch
from worldmodels.vision.networks import Frames, Images, to_unit

Color = tuple[int, int, int]
Mask = Bool[Tensor, "batch 1 height width"]
Weight = Float[Tensor, "#batch 1 #height #width"]
PerFrame = Float[Tensor, "batch"]

# After weighting, the squared error of the mean frame is this number for every data set, so that
# one weight of the KL term suits every data set. In CarRacing the plain error is about as large.
MEAN_FRAME_ERROR = 140.0
MAX_MOVING_WEIGHT = 30.0
# Levels of 255, as for colors that count as different.
COLOR_DISTANCE = MOVING_DISTANCE = 48
SURROUNDINGS = 5
COMMON_FRACTION = 0.95
MOST_COMMON_COLORS = 4


@dataclass(frozen=True, kw_only=True)
class ErrorConfig:
    """Weights of V's squared error.

    Attributes:
        by_variance: whether the error of each pixel is divided by the variance of this pixel over
            the data, and moving pixels have a weight of their own; see `PixelError`.
        background_weight: weight of the error on pixels of the commonest color; a weight of 1
            changes nothing.
        rare_weight: weight of the error on pixels with none of the common colors, such as the
            pixels of curbs.
        common_colors: the common colors of the data, as RGB values in 0..255, beginning with the
            commonest color.
    """

    by_variance: bool = False
    background_weight: float = 1.0
    rare_weight: float = 1.0
    common_colors: tuple[Color, ...] = ((0, 0, 0),)


def common_colors(frames: UInt8[np.ndarray, "frames height width 3"]) -> tuple[Color, ...]:
    """Find the few colors to which nearly all pixels are close, beginning with the commonest.

    CarRacing has two common colors. The search counts pixels in bins of 16 levels per channel.
    When the search has found a color, it removes all pixels that are close to this color.
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
    """Mark the pixels that do not have the commonest color, and the pixels around them.

    In CarRacing the commonest color is the color of grass, and grass causes most of a plain squared
    error. Road, curbs and car cover only a few hundred of 4,096 pixels, but only these pixels
    matter for driving.
    """
    return _widened(_unlike(images, config.common_colors[0])) > 0


def _widened(mask: Mask) -> Float[Tensor, "batch 1 height width"]:
    """Return 1 on the pixels of the mask and on the pixels around them, and 0 elsewhere."""
    return F.max_pool2d(mask.float(), SURROUNDINGS, stride=1, padding=SURROUNDINGS // 2)


def error_weight(images: Images, config: ErrorConfig) -> Weight:
    """Return `rare_weight` on rare colors, `background_weight` on background, and 1 elsewhere."""
    weight = torch.ones_like(images[:, :1])
    if config.background_weight != 1.0:
        weight.masked_fill_(~foreground(images, config), config.background_weight)
    if config.rare_weight != 1.0:
        weight.masked_fill_(rare(images, config), config.rare_weight)
    return weight


def rare(images: Images, config: ErrorConfig) -> Mask:
    """Mark the pixels that have none of the common colors, such as curbs and car in CarRacing."""
    return torch.stack([_unlike(images, color) for color in config.common_colors]).all(0)


def _unlike(images: Images, color: Color) -> Mask:
    point = torch.tensor(color, device=images.device, dtype=images.dtype) / 255.0
    distance = (images - point[:, None, None]).abs().amax(1, keepdim=True)
    return distance > COLOR_DISTANCE / 255.0


def unpacked(batch: FrameBatch | Frames) -> tuple[Frames, Frames | None]:
    """Return the frames of a batch, and the mean frames of their episodes if the batch has them."""
    return batch if isinstance(batch, FrameBatch) else (batch, None)


def squared_error(images: Images, target: Images, weight: Weight | None = None) -> PerFrame:
    """Compute the squared error of each image, summed over pixels and channels.

    The values of `target` are within 0..1.
    """
    error = (images - target).square()
    if weight is not None:
        error = error * weight
    return error.flatten(1).sum(1)


class PixelError(nn.Module):
    """The squared error on which V is trained.

    If `config.by_variance` is set, the error of a pixel is divided by v + v', where v is the
    variance that this pixel has over the data, and v' is the variance of a typical pixel that
    varies. Pixels that rarely change therefore get a higher weight. The term v' limits the weights.
    With a much smaller term, the error of the rarest events would be so large that V learns nothing
    else. In CartPole, the error after 400 steps was three times as large with a tenth of v'.

    A pixel that differs from the mean frame of its episode moves, and so do the pixels around it.
    If episodes differ more from each other than the frames within an episode do, moving pixels get
    an additional weight. Movement then counts as much as the differences between episodes. In
    LunarLander, each episode has other mountains, whose error is 27 times the error of everything
    that moves. Without the additional weight, V leaves out the lander.

    Attributes:
        weight: weight of each pixel, (1, 1, height, width), which is computed from the training
            data of the present round. Weights are not stored with V, because only training uses
            weights.
        moving_weight: additional weight of moving pixels, which is 1 or more, and is computed from
            the same data.
    """

    weight: Tensor
    moving_weight: float

    def __init__(self, config: ErrorConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weight", torch.ones(1, 1, 1, 1, device="cpu"), persistent=False)
        self.moving_weight = 1.0

    @torch.no_grad()
    def fit(self, sample: FrameBatch | Frames) -> None:
        """Compute the weights from a sample of the training frames.

        For frames without the mean frames of their episodes, `moving_weight` stays 1.
        """
        if not self.config.by_variance:
            return
        frames, still = unpacked(sample)
        variance = torch.zeros(frames.shape[1:], dtype=torch.float64)
        mean = frames.double().mean(0) / 255.0
        for part in frames.split(500):
            variance += (part.double() / 255.0 - mean).square().sum(0)
        variance = (variance / len(frames)).sum(-1)  # over the three channels
        if float(variance.mean()) == 0.0:  # all frames are equal, and there is nothing to weight
            return
        typical = variance.square().sum() / variance.sum()
        weight = 1.0 / (variance + typical)
        episode_mean = torch.zeros_like(weight)
        for part in () if still is None else still.split(500):
            episode_mean += (part.double() / 255.0 - mean).square().sum((0, -1))
        between = float((weight * episode_mean).sum() / len(frames))
        total = float((weight * variance).sum())
        ratio = between / max(total - between, 1e-9 * total)
        self.moving_weight = min(max(1.0, ratio), MAX_MOVING_WEIGHT)
        weight *= MEAN_FRAME_ERROR / (between + self.moving_weight * (total - between))
        self.weight = weight[None, None].float().to(self.weight.device)

    def forward(
        self, images: Images, target: Images, still: Frames | None = None
    ) -> tuple[PerFrame, PerFrame]:
        """Return the error on which V is trained, and the plain squared error without gradient.

        Args:
            still: mean frame of the episode of each target. If it is None, moving pixels have no
                weight of their own.
        """
        config, weight = self.config, self.weight
        if not config.background_weight == config.rare_weight == 1.0:
            weight = weight * error_weight(target, config)
        if still is not None and self.moving_weight > 1.0:
            apart = (target - to_unit(still)).abs().amax(1, keepdim=True) > MOVING_DISTANCE / 255.0
            weight = weight * (1.0 + (self.moving_weight - 1.0) * _widened(apart))
        return squared_error(images, target, weight), squared_error(images.detach(), target)
