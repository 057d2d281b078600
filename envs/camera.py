"""CarRacing's camera, and the change of colors when the window is shrunk.

The window of Gymnasium's CarRacing has 1000x800 pixels. The camera moves and turns with the car, so
the place of the car in the window never changes. The car is halfway across the window and three
quarters of the way down. The lowest eighth of the window shows indicators, such as the speed. World
coordinates are in Box2D units. The x axis points right, and the y axis points up.
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
    """A camera that shows the 1000x700 pixels above the indicators as `columns` x `rows` pixels."""

    columns: int
    rows: int

    @property
    def x_scale(self) -> float:
        """Number of columns of the camera's picture per column of the window."""
        return self.columns / WINDOW_W

    @property
    def y_scale(self) -> float:
        """Number of rows of the camera's picture per row of the window."""
        return self.rows / PLAYFIELD_HEIGHT

    def to_texture(
        self, position: tuple[float, float], angle: float, zoom: float, density: float
    ) -> Float64[np.ndarray, "2 3"]:
        """Return the affine map from the camera's pixels (column, row) to texels (x, y).

        Texels are the pixels of the texture that shows the track. The centres of pixels and texels
        have integer coordinates. `position` is the position of the car in texels, measured from the
        outer corner of the first texel, whose coordinates are (-0.5, -0.5). `angle` is the
        direction of the car in radians. `zoom` is the number of window pixels per world unit, and
        `density` is the number of texels per world unit.
        """
        right, down = density / (zoom * self.x_scale), density / (zoom * self.y_scale)
        cos, sin = math.cos(angle), math.sin(angle)
        x_right, x_down, y_right, y_down = cos * right, sin * down, sin * right, -cos * down
        column, row = CAR_X * self.x_scale - 0.5, CAR_Y * self.y_scale - 0.5
        x = position[0] - 0.5 - x_right * column - x_down * row
        y = position[1] - 0.5 - y_right * column - y_down * row
        return np.array([[x_right, x_down, x], [y_right, y_down, y]])


STOCK_CAMERA = Camera(columns=96, rows=84)


def camera_zoom(seconds: float) -> float:
    """Return the zoom in window pixels per world unit, `seconds` after the start of an episode.

    The zoom grows from 0.6 to 16.2 in the first second.

    Source: gymnasium's CarRacing._render.
    """
    return 0.1 * SCALE * max(1 - seconds, 0) + ZOOM * SCALE * min(seconds, 1)


def after_smoothscale(color: Sequence[int] | NDArray[Any]) -> Color:
    """Return the color in Gymnasium's frame of 96x96 pixels for a color in the window.

    Gymnasium shrinks the window with pygame's smoothscale, which lowers the red, green and blue
    levels of every pixel by two.
    """
    red, green, blue = (max(int(level) - 2, 0) for level in color)
    return red, green, blue
