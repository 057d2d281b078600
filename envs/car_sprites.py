"""Sprites, which are small cached pictures of the hull and the wheels as the camera shows them.

The camera turns with the hull, and the joints keep each wheel within 1e-4 world units of its place.
At a given zoom, the picture of the hull is therefore always the same, and the picture of a wheel
depends only on the steering angle and the rolling angle of the wheel. Drawing the car as polygons
takes 54 us. Drawing the car from cached pictures takes a sixth of this time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from gymnasium.envs.box2d import car_dynamics
from gymnasium.envs.box2d.car_dynamics import SIZE, WHEEL_R, Car
from gymnasium.envs.box2d.car_racing import FPS
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from envs.camera import CAR_X, CAR_Y, STOCK_CAMERA, Camera, Color, after_smoothscale, camera_zoom
from envs.polygons import fill_polygons

# Between two cached pictures, a wheel's end moves by 0.35 window pixels and its mark by at most
# 1.1; a pixel of the stock frame has 8 to 10. Steps half as wide change no measured error by 0.01
# levels. At a lower zoom, steps are wider by the cube of the zoom, so that the first second's
# pictures are soon reused.
_STEERING_STEPS = 25  # per radian
_ROLLING_STEPS = 48  # per turn
# The car is drawn in this part of the stock picture, which has whole-pixel borders in 64x64 too.
_BLOCK = slice(63, 84), slice(42, 54)
_HALF_WIDTH, _HALF_LENGTH = 1.7, 3.1  # units around the hull's origin that the car can cover
_HULL_COLOR = after_smoothscale((204, 0, 0))
_MARK_COLOR = after_smoothscale(car_dynamics.WHEEL_WHITE)
_DETAIL = 10  # subpixels per side of a stock frame's pixel: about a window pixel each
# Corners as x + iy, in the car's own units.
_HULLS = [np.array(getattr(car_dynamics, f"HULL_POLY{part}")) @ (1, 1j) for part in (1, 2, 3, 4)]
_WHEEL = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)]) @ (car_dynamics.WHEEL_W, 1j * WHEEL_R)
_ZOOMS = [camera_zoom(moment / FPS) for moment in range(FPS + 1)]  # per frame of the first second
_STEPS = [  # per radian and per turn, at each of these zooms
    (max(_STEERING_STEPS * fraction, 1.0), max(round(_ROLLING_STEPS * fraction), 1))
    for fraction in ((zoom / _ZOOMS[-1]) ** 3 for zoom in _ZOOMS)
]

# The channels are red, green and blue times the covered fraction of a pixel, and minus that
# fraction. The hull's last channel has 1 added, so that the sum over the car's parts is the
# fraction of the background that stays visible.
Sprite = Float32[np.ndarray, "rows columns 4"]
_Polygons = Sequence[NDArray[np.float64]]


@lru_cache
def car_sprites(camera: Camera) -> CarSprites:
    """Return the sprites for `camera`; all environments of this process share these sprites."""
    return CarSprites(camera)


class CarSprites:
    """Draws the car for one camera from sprites; a sprite is made when it is first needed."""

    def __init__(self, camera: Camera) -> None:
        """Prepare the sprites for `camera`, but draw no sprite yet."""
        self.camera = camera
        self._patch = _patch(camera)
        self._hull = lru_cache(maxsize=256)(self._draw_hull)
        # Each front wheel has 21 angles x 48 rolling steps, each rear wheel 48: 2,112 after the
        # zoom.
        self._wheel = lru_cache(maxsize=1 << 15)(self._draw_wheel)

    def draw(
        self,
        frame: UInt8[np.ndarray, "{self.camera.rows} {self.camera.columns} 3"],
        car: Car,
        seconds: float,
    ) -> None:
        """Draw `car` into `frame`, in place, with the zoom `seconds` after the episode began."""
        moment = min(round(seconds * FPS), FPS)  # constant after the first second
        steps_per_radian, steps_per_turn = _STEPS[moment]
        per_radian = steps_per_turn / math.tau
        angle = round(car.wheels[0].joint.angle * steps_per_radian)
        # Sprites do not overlap: a wheel's sprite lacks the part that the hull hides.
        sprite = self._hull(moment).copy()
        for number, wheel in enumerate(car.wheels):  # front left and right, rear left and right
            rolled = round(wheel.phase * per_radian) % steps_per_turn
            sprite += self._wheel(moment, number, angle if number < 2 else 0, rolled)
        patch = frame[self._patch]
        np.add(patch * sprite[..., 3:], sprite[..., :3], out=patch, casting="unsafe")

    def _draw_hull(self, moment: int) -> Sprite:
        sprite = _sprite(self.camera, [(_hull_points(moment), _HULL_COLOR)])
        sprite[..., :3] += 0.5  # so that the cast to bytes rounds
        sprite[..., 3] += 1.0
        return sprite

    def _draw_wheel(self, moment: int, wheel: int, angle: int, rolled: int) -> Sprite:
        """Draw a wheel and the white mark on its tread, without the parts that the hull hides.

        Source: gymnasium's Car.draw.
        """
        steps_per_radian, steps_per_turn = _STEPS[moment]
        turned = np.exp(1j * angle / steps_per_radian)
        centre = complex(*car_dynamics.WHEELPOS[wheel])
        fills = [([_points(centre + turned * _WHEEL, moment)], car_dynamics.WHEEL_COLOR)]
        ends = rolled * math.tau / steps_per_turn, rolled * math.tau / steps_per_turn + 1.2
        # An end of the mark that is below the wheel is drawn at the rim; with both below, it is
        # hidden.
        top, bottom = (
            math.copysign(1.0, math.cos(end)) if math.sin(end) > 0 else math.cos(end)
            for end in ends
        )
        if any(math.sin(end) <= 0 for end in ends):
            mark = _WHEEL.real + 1j * WHEEL_R * np.array([top, top, bottom, bottom])
            fills.append(([_points(centre + turned * mark, moment)], _MARK_COLOR))
        return _sprite(self.camera, fills, hidden=_hull_points(moment))


def _sprite(
    camera: Camera, fills: Sequence[tuple[_Polygons, Color]], hidden: _Polygons = ()
) -> Sprite:
    """Fill polygons with colors, erase the `hidden` polygons, and return a sprite for `camera`.

    The polygons are drawn at about the resolution of Gymnasium's window. The drawing is then
    resized by area averaging.
    """
    height, width = (side.stop - side.start for side in _BLOCK)
    # Indices of colors start at 1. One byte per pixel takes a third of the time of four floats.
    indices = np.zeros((height * _DETAIL, width * _DETAIL), np.uint8)
    for index, (polygons, _) in enumerate(fills, start=1):
        fill_polygons(indices, polygons, index)
    fill_polygons(indices, hidden, 0)
    block = _block(camera)
    rows, columns = (side.stop - side.start for side in block)
    sprite = np.zeros((rows, columns, 4), np.float32)
    for index, (_, color) in enumerate(fills, start=1):
        covered = (indices == index).view(np.uint8) * np.uint8(255)
        covered = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)
        covered = cv2.resize(covered, (columns, rows), interpolation=cv2.INTER_AREA)
        sprite += covered[..., None] * (np.array([*color, -1], np.float32) / 255)
    inside = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(_patch(camera), block, strict=True)
    )
    return sprite[tuple(inside)].copy()


@lru_cache(maxsize=FPS + 1)
def _hull_points(moment: int) -> list[NDArray[np.float64]]:
    return [_points(polygon, moment) for polygon in _HULLS]


def _points(polygon: NDArray[np.complex128], moment: int) -> NDArray[np.float64]:
    """Convert corners, complex numbers x + iy in the car's own units, to pixels of a drawing."""
    ahead_is_up = np.stack([polygon.real, -polygon.imag], axis=1)
    window = (CAR_X, CAR_Y) + ahead_is_up * (SIZE * _ZOOMS[moment])
    rows, columns = _BLOCK
    stock = window * (STOCK_CAMERA.x_scale, STOCK_CAMERA.y_scale) - (columns.start, rows.start)
    return stock * _DETAIL


def _block(camera: Camera) -> tuple[slice, slice]:
    """Return the rows and columns of the camera's picture that correspond to `_BLOCK`."""
    rows, columns = _BLOCK
    down, across = camera.rows / STOCK_CAMERA.rows, camera.columns / STOCK_CAMERA.columns
    return (
        slice(round(rows.start * down), round(rows.stop * down)),
        slice(round(columns.start * across), round(columns.stop * across)),
    )


def _patch(camera: Camera) -> tuple[slice, slice]:
    """Return the rows and columns of the camera's picture that the car can cover."""
    column, row = CAR_X * camera.x_scale, CAR_Y * camera.y_scale
    across = _HALF_WIDTH * _ZOOMS[-1] * camera.x_scale
    along = _HALF_LENGTH * _ZOOMS[-1] * camera.y_scale
    return (
        slice(math.floor(row - along), math.ceil(row + along)),
        slice(math.floor(column - across), math.ceil(column + across)),
    )
