"""CarRacing's camera, and the colors that arrive in the small picture.

The stock window is 1000x800 pixels. The camera turns with the car, whose origin stays in the middle
of the row three quarters down. The lowest eighth of the window shows indicators. World coordinates
are in Box2D units, x to the right, y up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.envs.box2d.car_racing import SCALE, WINDOW_H, WINDOW_W, ZOOM
from jaxtyping import Float64
from numpy.typing import NDArray

Color = tuple[int, int, int]

PLAYFIELD_HEIGHT = WINDOW_H * 7 // 8  # window pixels above the indicators
CAR_X, CAR_Y = WINDOW_W / 2, WINDOW_H * 3 / 4  # window pixels, from the left and from the top


@dataclass(frozen=True)
class Camera:
    """A camera that shows the window's 1000x700 playfield as `columns` x `rows` pixels."""

    columns: int
    rows: int

    @property
    def x_scale(self) -> float:
        """Pixels of the picture per window pixel, horizontally."""
        return self.columns / WINDOW_W

    @property
    def y_scale(self) -> float:
        """Pixels of the picture per window pixel, vertically."""
        return self.rows / PLAYFIELD_HEIGHT

    def to_texture(
        self,
        position: tuple[float, float],
        angle: float,
        zoom: float,
        *,
        density: float,
        origin: float,
    ) -> Float64[np.ndarray, "2 3"]:
        """Return the affine map from pixels (column, row) to texels (x, y), counted from centres.

        The car is at `position`, heading `angle` radians, and `zoom` window pixels show one unit. A
        texture has `density` texels per unit; its texel borders (`origin`, `origin`) meet at the
        world's origin.
        """
        right, down = density / (zoom * self.x_scale), density / (zoom * self.y_scale)
        cos, sin = math.cos(angle), math.sin(angle)
        x_right, x_down, y_right, y_down = cos * right, sin * down, sin * right, -cos * down
        column, row = CAR_X * self.x_scale - 0.5, CAR_Y * self.y_scale - 0.5
        x = position[0] * density + origin - 0.5 - x_right * column - x_down * row
        y = position[1] * density + origin - 0.5 - y_right * column - y_down * row
        return np.array([[x_right, x_down, x], [y_right, y_down, y]])


STOCK_CAMERA = Camera(columns=96, rows=84)


def camera_zoom(seconds: float) -> float:
    """Return window pixels per unit; the first second of an episode zooms in, from 0.6 to 16.2.

    Source: gymnasium's CarRacing._render.
    """
    return 0.1 * SCALE * max(1 - seconds, 0) + ZOOM * SCALE * min(seconds, 1)


def after_smoothscale(color: Sequence[int] | NDArray[Any]) -> Color:
    """Return the color in the stock frame, where smoothscale's rounding loses two levels."""
    red, green, blue = (max(int(level) - 2, 0) for level in color)
    return red, green, blue
