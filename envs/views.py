"""Views: the part of a frame that agents get, which is some rows, shrunk to a small square."""

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
    """Keep `rows` (first, past-last; None keeps all), then area-resize to `size` x `size` pixels.

    `source` is the height and width of the env's frames; None accepts frames of any size. Frames of
    another size raise an error.

    Source: Ha & Schmidhuber, arXiv 1803.10122, A.1: 64x64 RGB frames; their code first cuts
    CarRacing's indicators off and keeps rows 0:84 of 96, so its pixels are not square.
    """

    rows: tuple[int, int] | None = None
    size: int = 64
    source: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"expected a size of at least 1 pixel, got {self.size}")
        if self.rows is not None and not 0 <= self.rows[0] < self.rows[1]:
            raise ValueError(f"expected rows (first, past-last), 0 <= first, got {self.rows}")
        if self.source is not None and min(self.source) < 1:
            raise ValueError(f"expected a source of at least 1x1 pixels, got {self.source}")

    def __call__(
        self, frames: NDArray[Any]
    ) -> UInt8[np.ndarray, "*batch {self.size} {self.size} 3"]:
        """Convert frames (..., H, W, 3) to this view, uint8 (..., size, size, 3).

        Frames of size x size were already drawn for this view: the same array is returned, and no
        rows are cut.

        Raises:
            ValueError: not uint8, not (..., H, W, 3), neither of the source's size nor of the
                view's own, or fewer rows than the view keeps.
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
                f"expected frames of {source} pixels, or of {own} that went through the view "
                f"already, got {height}x{width}"
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
        """Restore a view from `dataclasses.asdict`, or from JSON, where tuples became lists.

        A view without a source takes frames of any size, except for the paper's view.
        """
        rows = None if fields["rows"] is None else tuple(fields["rows"])
        before = PAPER_VIEW.source if rows == PAPER_VIEW.rows else None
        source = fields.get("source", before)
        return cls(rows, fields["size"], None if source is None else tuple(source))


# The paper's view of CarRacing, without the indicators.
PAPER_VIEW = View(rows=(0, 84), size=64, source=(96, 96))


class ViewObservation(TransformObservation[Any, Any, Any]):
    """Shows an environment's pixel observations through a `View`.

    Raises:
        ValueError: the observations are not uint8 (H, W, 3).
    """

    def __init__(self, env: gym.Env[Any, Any], view: View) -> None:
        """Wrap `env`, whose observations are uint8 (H, W, 3)."""
        if not has_pixels(env.observation_space):
            raise ValueError(
                f"expected uint8 (H, W, 3) observations, got {env.observation_space}: "
                "wrap it with gymnasium.wrappers.AddRenderObservation first"
            )
        gym.utils.RecordConstructorArgs.__init__(self, view=view)
        super().__init__(env, view, spaces.Box(0, 255, (view.size, view.size, 3), np.uint8))


def has_pixels(space: spaces.Space[Any]) -> bool:
    """Whether observations are uint8 frames (H, W, 3)."""
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[-1] == 3
    )
