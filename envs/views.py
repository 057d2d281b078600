"""Views, which cut some rows out of a frame and resize these rows to a small square."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from jaxtyping import UInt8
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """Keep some rows of a frame, and resize them to `size` x `size` pixels by area averaging.

    `rows` is (first row, last row + 1), or None if all rows are kept. `source` is the height and
    the width of the environment's frames, or None if frames of any size are accepted. A frame that
    has neither the size `source` nor the view's own size raises a ValueError.

    Source: Ha & Schmidhuber, arXiv 1803.10122, A.1, for RGB frames of 64x64 pixels. The authors'
    code keeps rows 0 to 83 of 96 rows, because the other rows show indicators. The view shrinks 84
    rows and 96 columns to 64 each, so a pixel of the view is not square.
    """

    rows: tuple[int, int] | None = None
    size: int = 64
    source: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"expected a size of at least 1 pixel, got {self.size}")
        if self.rows is not None and not 0 <= self.rows[0] < self.rows[1]:
            raise ValueError(f"expected rows (first, end) with 0 <= first < end, got {self.rows}")
        if self.source is not None and min(self.source) < 1:
            raise ValueError(f"expected a source of at least 1x1 pixels, got {self.source}")

    def __call__(
        self, frames: NDArray[Any]
    ) -> UInt8[np.ndarray, "*batch {self.size} {self.size} 3"]:
        """Convert frames (..., H, W, 3) to this view, uint8 (..., size, size, 3).

        Frames of `size` x `size` pixels are already in this view and are returned unchanged.

        Raises:
            ValueError: the frames are not uint8 (..., H, W, 3), have neither the source's size nor
                the view's own size, or have fewer rows than the view keeps.
        """
        dtype = getattr(frames, "dtype", None)
        shape: tuple[int, ...] = getattr(frames, "shape", ())
        if dtype != np.uint8 or len(shape) < 3 or shape[-1] != 3:
            raise ValueError(
                f"expected uint8 frames of shape (..., H, W, 3), got {dtype} {tuple(shape)}"
            )
        *batch, height, width, _ = shape
        if (height, width) == (self.size, self.size):
            return frames
        if self.source is not None and (height, width) != self.source:
            source, own = (f"{rows}x{columns}" for rows, columns in (self.source, [self.size] * 2))
            raise ValueError(
                f"expected frames of {source} pixels, or of {own} pixels if the frames are already "
                f"in the view, got {height}x{width}"
            )
        first, last = self.rows or (0, height)
        if last > height:
            raise ValueError(
                f"expected frames of at least {last} rows for {self}, got shape {frames.shape}"
            )
        kept = frames.reshape(-1, height, width, 3)[:, first:last]
        small = np.empty((len(kept), self.size, self.size, 3), dtype=np.uint8)
        for source, target in zip(kept, small, strict=True):
            target[...] = cv2.resize(source, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return small.reshape(*batch, self.size, self.size, 3)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> View:
        """Restore a view from its fields as JSON holds them, with lists in place of tuples.

        If `fields` has no key `source`, the paper's view gets the source of `PAPER_VIEW`, and any
        other view accepts frames of any size.
        """
        rows = None if fields["rows"] is None else tuple(fields["rows"])
        before = PAPER_VIEW.source if rows == PAPER_VIEW.rows else None
        source = fields.get("source", before)
        return cls(rows, fields["size"], None if source is None else tuple(source))


# The paper's view of CarRacing, without the indicators.
PAPER_VIEW = View(rows=(0, 84), size=64, source=(96, 96))


class ViewObservation(TransformObservation[Any, Any, Any]):
    """A wrapper that applies a `View` to the observations, which must be frames.

    Raises:
        ValueError: the observations are not uint8 (H, W, 3).
    """

    def __init__(self, env: gym.Env[Any, Any], view: View) -> None:
        """Wrap `env`, whose observations are uint8 (H, W, 3)."""
        if not has_pixels(env.observation_space):
            raise ValueError(
                f"expected uint8 (H, W, 3) observations, got {env.observation_space}: "
                "wrap the environment with gymnasium.wrappers.AddRenderObservation first"
            )
        gym.utils.RecordConstructorArgs.__init__(self, view=view)
        super().__init__(env, view, spaces.Box(0, 255, (view.size, view.size, 3), np.uint8))


def has_pixels(space: spaces.Space[Any]) -> bool:
    """Whether the values of a space are uint8 frames (H, W, 3)."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and space.shape[2:] == (3,)
