"""CarRacing's indicators: score, speed, wheel speeds, steering angle and rate of turn."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import pygame
from gymnasium.envs.box2d.car_racing import WINDOW_H, WINDOW_W, CarRacing
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from envs.camera import PLAYFIELD_HEIGHT, after_smoothscale

_ROWS, _COLUMNS = 12, 96
_BAR_WIDTH, _LINE = WINDOW_W // 40, WINDOW_H // 40  # window pixels of the bars' grid
_TEXT_COLUMNS = 12  # columns of the frame for the score; 125 of the window
_TEXT_CENTRE = (60, 50)  # window pixels in the strip
_FONT_SIZE = 42

# Source: gymnasium's CarRacing._render_indicators. The bars of speed and of the four wheels are
# vertical and one grid place wide. Those of steering and turning are horizontal, two lines high,
# and grow to either side. Gymnasium's polygons include their last pixels.
_WHITE, _BLUE, _VIOLET = (255, 255, 255), (0, 0, 255), (51, 0, 255)
_VERTICAL_STARTS = np.array([5, 7, 8, 9, 10]) * _BAR_WIDTH
_VERTICAL_PAINTS = (_WHITE, _BLUE, _BLUE, _VIOLET, _VIOLET)
_HORIZONTAL_STARTS = np.array([20, 30]) * _BAR_WIDTH
_HORIZONTAL_PAINTS = ((0, 255, 0), (255, 0, 0))
_BAR_BOTTOM = WINDOW_H - _LINE - PLAYFIELD_HEIGHT  # of a vertical bar, rows below the playfield
_SCALES = np.array([-0.02, -0.01, -0.01, -0.01, -0.01]) * _LINE  # negative: bars grow upwards
_HORIZONTAL_SCALES = np.array([-10.0, -0.8]) * _BAR_WIDTH
_MIN_VALUE = 1e-4  # smaller values are not drawn


def draw_indicators(strip: UInt8[np.ndarray, "12 96 3"], env: CarRacing) -> None:
    """Draw the indicators for the current state of `env` into `strip`, in place."""
    car: Any = env.car
    wheels = car.wheels
    values = np.array([np.hypot(*car.hull.linearVelocity), *(wheel.omega for wheel in wheels)])
    turning = np.array([wheels[0].joint.angle, car.hull.angularVelocity])
    rows = _bars(_BAR_BOTTOM, values, _SCALES, _ROW_EDGES)
    columns = _bars(_HORIZONTAL_STARTS, turning, _HORIZONTAL_SCALES, _COLUMN_EDGES)
    vertical = rows.T @ _VERTICAL_COLORS
    horizontal = (_HORIZONTAL_ROWS * columns[:, None]).transpose(1, 2, 0) @ _HORIZONTAL_COLORS
    strip[:] = np.minimum(vertical.reshape(_ROWS, _COLUMNS, 3) + horizontal + 0.5, 255)
    # The score is drawn after the bars, as a negative score could reach them.
    strip[:, :_TEXT_COLUMNS] = _score(f"{env.reward:04.0f}")


def _bars(
    starts: NDArray[Any] | int, values: NDArray[Any], scales: NDArray[Any], edges: NDArray[Any]
) -> Float32[np.ndarray, "bar pixel"]:
    """Return the fraction of each pixel that each bar covers.

    The length of a bar is proportional to the value that the bar shows.
    """
    ends = (starts + values * scales).astype(int)
    covered = _coverage(np.minimum(starts, ends), np.maximum(starts, ends) + 1, edges)
    covered[np.abs(values) <= _MIN_VALUE] = 0
    return covered


def _coverage(
    starts: NDArray[Any], ends: NDArray[Any], edges: NDArray[Any]
) -> Float32[np.ndarray, "bar pixel"]:
    """Return the fraction of each pixel that lies between the start and the end of each bar.

    The `starts` and `ends` of bars, and the `edges` of pixels, are given in window pixels.
    """
    inside = np.minimum(ends[:, None], edges[1:]) - np.maximum(starts[:, None], edges[:-1])
    return np.asarray(np.maximum(inside, 0) / (edges[1] - edges[0]), np.float32)


_ROW_EDGES = np.arange(_ROWS + 1) * ((WINDOW_H - PLAYFIELD_HEIGHT) / _ROWS)
_COLUMN_EDGES = np.arange(_COLUMNS + 1) * (WINDOW_W / _COLUMNS)
_VERTICAL_COLORS = (
    _coverage(_VERTICAL_STARTS, _VERTICAL_STARTS + _BAR_WIDTH, _COLUMN_EDGES)[:, :, None]
    * np.array([after_smoothscale(color) for color in _VERTICAL_PAINTS], np.float32)[:, None]
).reshape(len(_VERTICAL_PAINTS), -1)
_HORIZONTAL_COLORS = np.array(list(map(after_smoothscale, _HORIZONTAL_PAINTS)), np.float32)
_TOP = np.array([WINDOW_H - 4 * _LINE - PLAYFIELD_HEIGHT] * 2)
_HORIZONTAL_ROWS = _coverage(_TOP, _TOP + 2 * _LINE + 1, _ROW_EDGES)[:, :, None]


@lru_cache(maxsize=2048)
def _score(text: str) -> UInt8[np.ndarray, "12 12 3"]:
    """Return a picture of a score, in white on black.

    The pictures are cached, because drawing a score takes 60 us, and most scores of an episode
    occur several times.
    """
    pygame.font.init()
    image = pygame.font.Font(pygame.font.get_default_font(), _FONT_SIZE).render(
        text, True, _WHITE, (0, 0, 0)
    )
    window = pygame.Surface((_TEXT_COLUMNS * WINDOW_W // _COLUMNS, WINDOW_H - PLAYFIELD_HEIGHT))
    window.blit(image, image.get_rect(center=_TEXT_CENTRE))
    pixels = pygame.surfarray.array3d(window).transpose(1, 0, 2)
    small = cv2.resize(pixels, (_TEXT_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    return np.maximum(small, 2) - 2  # smoothscale's rounding loses two levels
