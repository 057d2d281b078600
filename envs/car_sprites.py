"""The car as the camera sees it: a few small pictures, each drawn once and kept.

The camera turns with the hull and the joints hold to 1e-4 units, so at one zoom the hull always
looks the same, and a wheel differs by its steering angle and by how far it has rolled. Drawing
from kept pictures takes a sixth of the time of drawing polygons (54 us).
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from gymnasium.envs.box2d.car_dynamics import (
    HULL_POLY1,
    HULL_POLY2,
    HULL_POLY3,
    HULL_POLY4,
    SIZE,
    WHEEL_COLOR,
    WHEEL_R,
    WHEEL_W,
    WHEEL_WHITE,
    WHEELPOS,
    Car,
)
from gymnasium.envs.box2d.car_racing import FPS
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from envs.camera import CAR_X, CAR_Y, STOCK_CAMERA, Camera, Color, after_smoothscale, camera_zoom

# Between two kept pictures a wheel's end moves by 0.35 window pixels, its mark by at most 1.1, of
# the 8 to 10 in a pixel of the stock frame. Steps half as wide change no figure by 0.01 levels.
# From afar they are wider, by the cube of the zoom, so that first seconds repeat themselves soon.
_STEERING_STEPS = 25  # a radian
_ROLLING_STEPS = 48  # a turn
# Drawn in this part of the stock picture: it borders on whole pixels of 64x64, too.
_BLOCK = slice(63, 84), slice(42, 54)
_HALF_WIDTH, _HALF_LENGTH = 1.7, 3.1  # units around the hull's origin that the car can cover
_HULL_COLOR, _MARK_COLOR = after_smoothscale((204, 0, 0)), after_smoothscale(WHEEL_WHITE)
_DETAIL = 10  # about a window pixel: what a pixel of the stock frame is drawn with, each way
_SHIFT = 4  # fractional bits of polygon corners handed to cv2
_HULLS = [
    np.array([complex(x, y) for x, y in polygon])
    for polygon in (HULL_POLY1, HULL_POLY2, HULL_POLY3, HULL_POLY4)
]
_WHEEL = np.array(
    [complex(x * WHEEL_W, y * WHEEL_R) for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1))]
)
_STEPS = [  # a radian and a turn, at each of the first second's zooms
    (max(_STEERING_STEPS * fraction, 1.0), max(round(_ROLLING_STEPS * fraction), 1))
    for fraction in (
        (camera_zoom(moment / FPS) / camera_zoom(1.0)) ** 3 for moment in range(FPS + 1)
    )
]

# Red, green and blue times the share of a pixel that is covered, and less that share. Added up
# over the car's parts, one of them with a 1 more, the last is what still shines through.
Sprite = Float32[np.ndarray, "rows columns 4"]


@lru_cache
def car_sprites(camera: Camera) -> CarSprites:
    """The sprites of `camera`, the same for all environments of this process."""
    return CarSprites(camera)


class CarSprites:
    """Draws the car for one camera, from pictures made when first needed."""

    def __init__(self, camera: Camera) -> None:
        """Sprites as `camera` sees them."""
        self.camera = camera
        self._patch = _patch(camera)
        self._hull = lru_cache(maxsize=256)(self._draw_hull)
        # 21 angles x 48 for either front wheel, 48 for either rear one: 2,112 after the zoom.
        self._wheel = lru_cache(maxsize=1 << 15)(self._draw_wheel)

    def draw(
        self,
        frame: UInt8[np.ndarray, "{self.camera.rows} {self.camera.columns} 3"],
        car: Car,
        seconds: float,
    ) -> None:
        """Draw `car` into a frame, in place, `seconds` after the episode began."""
        moment = min(round(seconds * FPS), FPS)  # from the first second on, all look the same
        steps_per_radian, steps_per_turn = _STEPS[moment]
        per_radian = steps_per_turn / math.tau
        front_left, front_right, rear_left, rear_right = car.wheels
        angle = round(front_left.joint.angle * steps_per_radian)
        # They overlap nowhere: what the hull hides of a wheel is not in the wheel's sprite.
        sprite = self._hull(moment) + self._wheel(
            moment, 0, angle, round(front_left.phase * per_radian) % steps_per_turn
        )
        sprite += self._wheel(
            moment, 1, angle, round(front_right.phase * per_radian) % steps_per_turn
        )
        sprite += self._wheel(moment, 2, 0, round(rear_left.phase * per_radian) % steps_per_turn)
        sprite += self._wheel(moment, 3, 0, round(rear_right.phase * per_radian) % steps_per_turn)
        patch = frame[self._patch]
        behind = patch * sprite[..., 3:]
        np.add(behind, sprite[..., :3], out=patch, casting="unsafe")

    def _draw_hull(self, moment: int) -> Sprite:
        canvas = _Canvas()
        for polygon in _hull_points(moment):
            canvas.fill(polygon, _HULL_COLOR)
        sprite = canvas.sprite(self.camera)
        sprite[..., :3] += 0.5  # so that the cast to bytes rounds
        sprite[..., 3] += 1.0
        return sprite

    def _draw_wheel(self, moment: int, wheel: int, angle: int, rolled: int) -> Sprite:
        """A wheel and the white mark on its tread, less what the hull hides.

        Source: gymnasium's Car.draw.
        """
        steps_per_radian, steps_per_turn = _STEPS[moment]
        canvas = _Canvas()
        turned = np.exp(1j * angle / steps_per_radian)
        centre = complex(*WHEELPOS[wheel])
        canvas.fill(_points(centre + turned * _WHEEL, moment), WHEEL_COLOR)
        ends = rolled * math.tau / steps_per_turn, rolled * math.tau / steps_per_turn + 1.2
        # The mark's ends stop at the rim when they go underneath; once both are, it is hidden.
        top, bottom = (
            math.copysign(1.0, math.cos(end)) if math.sin(end) > 0 else math.cos(end)
            for end in ends
        )
        if any(math.sin(end) <= 0 for end in ends):
            mark = _WHEEL.real + 1j * WHEEL_R * np.array([top, top, bottom, bottom])
            canvas.fill(_points(centre + turned * mark, moment), _MARK_COLOR)
        for polygon in _hull_points(moment):
            canvas.erase(polygon)
        return canvas.sprite(self.camera)


class _Canvas:
    """Where which color is, drawn as finely as the stock window."""

    def __init__(self) -> None:
        rows, columns = _BLOCK
        self._size = columns.stop - columns.start, rows.stop - rows.start
        self._colors: list[Color] = []
        # From 1 on: one byte a pixel takes a third of drawing four floats.
        self._indices = np.zeros((self._size[1] * _DETAIL, self._size[0] * _DETAIL), np.uint8)

    def fill(self, points: NDArray[np.int32], color: Color) -> None:
        if color not in self._colors:
            self._colors.append(color)
        index = 1 + self._colors.index(color)
        cv2.fillConvexPoly(self._indices, points, index, cv2.LINE_8, _SHIFT)

    def erase(self, points: NDArray[np.int32]) -> None:
        cv2.fillConvexPoly(self._indices, points, 0, cv2.LINE_8, _SHIFT)

    def sprite(self, camera: Camera) -> Sprite:
        """What `camera` sees, which gets the stock camera's picture area-resized."""
        block = _block(camera)
        rows, columns = (side.stop - side.start for side in block)
        sprite = np.zeros((rows, columns, 4), np.float32)
        for index, color in enumerate(self._colors, start=1):
            covered = (self._indices == index).view(np.uint8) * np.uint8(255)
            covered = cv2.resize(covered, self._size, interpolation=cv2.INTER_AREA)
            covered = cv2.resize(covered, (columns, rows), interpolation=cv2.INTER_AREA)
            sprite += covered[..., None] * (np.array([*color, -1], np.float32) / 255)
        inside = (
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(_patch(camera), block, strict=True)
        )
        return sprite[tuple(inside)].copy()


@lru_cache(maxsize=FPS + 1)
def _hull_points(moment: int) -> list[NDArray[np.int32]]:
    return [_points(polygon, moment) for polygon in _HULLS]


def _points(polygon: NDArray[np.complex128], moment: int) -> NDArray[np.int32]:
    """A polygon, x + iy in the car's own units, as cv2's fixed-point one on a canvas."""
    ahead_is_up = np.stack([polygon.real, -polygon.imag], axis=1)
    window = (CAR_X, CAR_Y) + ahead_is_up * (SIZE * camera_zoom(moment / FPS))
    rows, columns = _BLOCK
    stock = window * (STOCK_CAMERA.x_scale, STOCK_CAMERA.y_scale) - (columns.start, rows.start)
    # cv2 counts from pixel centres.
    return np.rint((stock * _DETAIL - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _block(camera: Camera) -> tuple[slice, slice]:
    """Rows and columns of the camera's picture that are `_BLOCK` in the stock camera's."""
    rows, columns = _BLOCK
    down, across = camera.rows / STOCK_CAMERA.rows, camera.columns / STOCK_CAMERA.columns
    return (
        slice(round(rows.start * down), round(rows.stop * down)),
        slice(round(columns.start * across), round(columns.stop * across)),
    )


def _patch(camera: Camera) -> tuple[slice, slice]:
    """Rows and columns of the camera's picture that the car can cover, inside the block."""
    column, row = CAR_X * camera.x_scale, CAR_Y * camera.y_scale
    across = _HALF_WIDTH * camera_zoom(1.0) * camera.x_scale
    along = _HALF_LENGTH * camera_zoom(1.0) * camera.y_scale
    return (
        slice(math.floor(row - along), math.ceil(row + along)),
        slice(math.floor(column - across), math.ceil(column + across)),
    )
