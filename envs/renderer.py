"""CarRacing's pictures, drawn fast: the track painted once into a texture, one warp a frame.

Gymnasium draws a 1000x800 window each step only to shrink it to 96x96. Here reset() paints
the track into a texture; a frame is one affine warp of it onto the 96-pixel grid, the car
drawn on top, and for the paper's view the same area-resize to 64x64 that it does.

World coordinates are in Box2D units, x to the right, y up; texture rows run along +y.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

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
    Car,
)
from gymnasium.envs.box2d.car_racing import GRASS_DIM, PLAYFIELD, WINDOW_H, WINDOW_W
from jaxtyping import Complex128, Float64, UInt8
from numpy.typing import NDArray

Color = tuple[int, int, int]

GRID = 96  # the stock frame is GRID x GRID pixels
PLAYFIELD_ROWS = 84  # of them above the indicators
_X_SCALE, _Y_SCALE = GRID / WINDOW_W, GRID / WINDOW_H  # frame pixels per window pixel

# 2.5 a unit is finer than a frame (1.6 x 1.9 pixels a unit), with room for the last zoom.
TEXELS_PER_UNIT = 2.5
_LEVELS = 6  # each half the one before: the first second zooms in from 1/18
_TEXTURE_SIZE = 1696  # texels: the playfield and a black margin, divisible by 2**(_LEVELS - 1)
_ORIGIN = _TEXTURE_SIZE / 2

# cv2's soft edge adds 0.4 texels on either side; without taking them off, the road is 0.3
# units wider and the pixel error against the stock frame 0.63 levels instead of 0.37.
_EDGE = 0.4
_SHIFT = 4  # fractional bits of polygon corners handed to cv2
_CAR_ROWS, _CAR_COLUMNS = slice(64, 80), slice(42, 54)  # frame pixels the car can cover
_CAR_DETAIL = 8  # sub-pixels a side that the car is drawn with
_CAR_CENTRE = (  # the hull's origin in that patch; cv2 counts from pixel centres
    (0.5 * GRID - _CAR_COLUMNS.start) * _CAR_DETAIL - 0.5,
    (0.75 * GRID - _CAR_ROWS.start) * _CAR_DETAIL - 0.5,
)
_HULLS = (HULL_POLY1, HULL_POLY2, HULL_POLY3, HULL_POLY4)
_HULL_POINTS = np.array([complex(x, y) * SIZE for polygon in _HULLS for x, y in polygon])
_HULL_ENDS = list(itertools.accumulate((len(polygon) for polygon in _HULLS), initial=32))
_HULL_PARTS = [slice(*ends) for ends in itertools.pairwise(_HULL_ENDS)]  # after 4 x 8 for wheels
# A wheel's corners, and its mark's before the phase shortens them; both start at the front left.
_WHEEL = np.array(
    [complex(x * WHEEL_W, y * WHEEL_R) for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1))]
)
_WHEEL = np.concatenate([_WHEEL, _WHEEL.real + 1j * WHEEL_R]) * SIZE


def arriving(color: Sequence[int] | NDArray[Any]) -> Color:
    """The colour that reaches the stock frame: smoothscale's rounding loses two levels."""
    red, green, blue = (max(int(level) - 2, 0) for level in np.asarray(color))
    return red, green, blue


_HULL_COLOR = arriving((204, 0, 0))
_MARK_COLOR = arriving(WHEEL_WHITE)


class TrackPicture:
    """One track as a pyramid of textures, and frames cut from it.

    The arrays are kept between tracks: `paint` fills them anew.
    """

    def __init__(self) -> None:
        """No track yet: `paint` first."""
        sizes = [_TEXTURE_SIZE >> level for level in range(_LEVELS)]
        self._textures = [np.zeros((size, size, 3), dtype=np.uint8) for size in sizes]
        self._tiles: list[NDArray[np.float64]] = []
        self._road_color: Color = (0, 0, 0)

    def paint(
        self,
        tiles: Sequence[tuple[Float64[np.ndarray, "4 2"], Color]],
        curbs: Sequence[tuple[Float64[np.ndarray, "4 2"], Color]],
        *,
        road_color: Color,
        background_color: Color,
        grass_color: Color,
    ) -> None:
        """Paint a track: corners are (left, right, right, left) of a tile's end and start."""
        finest = self._textures[0]
        np.copyto(finest, _grass(background_color, grass_color))
        corners = [_texels(corner) for corner, _ in tiles]
        # One ring first: between tiles painted one by one, grass shines through the seams.
        edges = np.array([_inset(corner, _EDGE) for corner in corners])
        ring = [_fixed(edges[:, 0]), _fixed(edges[:, 1])]
        cv2.fillPoly(finest, ring, road_color, cv2.LINE_AA, _SHIFT)
        # A texel narrower than the ring, so that painting a tile leaves the soft edge alone.
        self._tiles = [_inset(corner, 1.0) for corner in corners]
        self._road_color = road_color
        for tile, (_, color) in zip(self._tiles, tiles, strict=True):
            cv2.fillConvexPoly(finest, _fixed(tile), color, cv2.LINE_8, _SHIFT)
        for corner, color in curbs:
            curb = _fixed(_inset(_texels(corner), _EDGE))
            cv2.fillConvexPoly(finest, curb, color, cv2.LINE_AA, _SHIFT)
        for fine, coarse in zip(self._textures, self._textures[1:], strict=False):
            cv2.resize(fine, coarse.shape[1::-1], dst=coarse, interpolation=cv2.INTER_AREA)

    def wear(self, index: int) -> None:
        """Tile `index` was touched: it takes the plain road's colour."""
        for level, texture in enumerate(self._textures):
            tile = (self._tiles[index] + 0.5) / 2**level - 0.5
            cv2.fillConvexPoly(texture, _fixed(tile), self._road_color, cv2.LINE_8, _SHIFT)

    def crop(
        self, position: tuple[float, float], angle: float, zoom: float
    ) -> UInt8[np.ndarray, "84 96 3"]:
        """The playfield as the camera sees it, behind a car at `position` heading `angle`.

        `zoom` is in window pixels a unit, `angle` in radians.
        """
        # Two texels or fewer a frame pixel, so that linear interpolation misses none.
        texels_a_pixel = TEXELS_PER_UNIT / (zoom * _Y_SCALE)
        level = min(max(int(math.log2(texels_a_pixel)), 0), _LEVELS - 1)
        density = TEXELS_PER_UNIT / 2**level
        along_x, along_y = density / (zoom * _X_SCALE), density / (zoom * _Y_SCALE)
        cos, sin = math.cos(angle), math.sin(angle)
        # Frame pixel (column, row) -> texel; the car sits at column 48, row 72, rows run down.
        matrix = np.array([[cos * along_x, sin * along_y, 0.0], [sin * along_x, -cos * along_y, 0]])
        origin = _ORIGIN / 2**level
        car_x, car_y = 0.5 * GRID - 0.5, 0.75 * GRID - 0.5
        matrix[0, 2] = position[0] * density + origin - 0.5 - matrix[0, :2] @ (car_x, car_y)
        matrix[1, 2] = position[1] * density + origin - 0.5 - matrix[1, :2] @ (car_x, car_y)
        return cv2.warpAffine(
            self._textures[level],
            matrix,
            (GRID, PLAYFIELD_ROWS),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )


def draw_car(frame: UInt8[np.ndarray, "rows 96 3"], car: Car, zoom: float) -> None:
    """Draw the car into a cropped frame, in place; the camera turns with it."""
    patch = frame[_CAR_ROWS, _CAR_COLUMNS]
    height, width = patch.shape[:2]
    detailed = cv2.resize(
        patch, (width * _CAR_DETAIL, height * _CAR_DETAIL), interpolation=cv2.INTER_NEAREST
    )
    marks, corners = _wheel_corners(car)
    # Points as complex numbers turn all at once: 40 us less than polygon by polygon.
    points = np.concatenate([corners.reshape(-1), _HULL_POINTS]).view(np.float64).reshape(-1, 2)
    scale = (zoom * _X_SCALE * _CAR_DETAIL, -zoom * _Y_SCALE * _CAR_DETAIL)
    fixed = _fixed(points * scale + _CAR_CENTRE)
    for start, has_mark in zip(range(0, 32, 8), marks, strict=True):
        cv2.fillConvexPoly(detailed, fixed[start : start + 4], WHEEL_COLOR, cv2.LINE_8, _SHIFT)
        if has_mark:
            mark = fixed[start + 4 : start + 8]
            cv2.fillConvexPoly(detailed, mark, _MARK_COLOR, cv2.LINE_8, _SHIFT)
    for part in _HULL_PARTS:
        cv2.fillConvexPoly(detailed, fixed[part], _HULL_COLOR, cv2.LINE_8, _SHIFT)
    cv2.resize(detailed, (width, height), dst=patch, interpolation=cv2.INTER_AREA)


def _wheel_corners(car: Car) -> tuple[list[bool], Complex128[np.ndarray, "4 8"]]:
    """Corners of each wheel and its mark, x + iy in the hull's axes; and which marks show.

    Source: gymnasium.envs.box2d.car_dynamics.Car.draw.
    """
    hull_place, hull_angle = complex(*car.hull.position), car.hull.angle
    places = np.array([complex(*wheel.position) for wheel in car.wheels]) - hull_place
    turns = np.exp(1j * (np.array([wheel.angle for wheel in car.wheels]) - hull_angle))
    corners = np.repeat(_WHEEL[None], 4, axis=0)
    marks = []
    for corner, wheel in zip(corners, car.wheels, strict=True):
        sin_1, sin_2 = math.sin(wheel.phase), math.sin(wheel.phase + 1.2)
        top, bottom = math.cos(wheel.phase), math.cos(wheel.phase + 1.2)
        # The mark is on the tread: its ends stop at the rim when they go underneath.
        if sin_1 > 0:
            top = math.copysign(1.0, top)
        if sin_2 > 0:
            bottom = math.copysign(1.0, bottom)
        corner.imag[4:] *= (top, top, bottom, bottom)
        marks.append(not (sin_1 > 0 and sin_2 > 0))
    return marks, places[:, None] * np.exp(-1j * hull_angle) + corners * turns[:, None]


@lru_cache(maxsize=1)
def _grass(background_color: Color, grass_color: Color) -> UInt8[np.ndarray, "texels texels 3"]:
    """The playfield without a road; black outside."""
    texture = np.zeros((_TEXTURE_SIZE, _TEXTURE_SIZE, 3), dtype=np.uint8)
    square = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    field = _texels((square * 2 - 1) * PLAYFIELD)
    cv2.fillConvexPoly(texture, _fixed(field), background_color, cv2.LINE_AA, _SHIFT)
    for x in range(-20, 20, 2):
        for y in range(-20, 20, 2):
            patch = _texels(np.add(square, (x, y)) * GRASS_DIM)
            cv2.fillConvexPoly(texture, _fixed(patch), grass_color, cv2.LINE_AA, _SHIFT)
    texture.setflags(write=False)
    return texture


def _texels(world: NDArray[np.float64]) -> NDArray[np.float64]:
    """World points to finest-texture points, counted from texel centres."""
    return world * TEXELS_PER_UNIT + (_ORIGIN - 0.5)


def _inset(tile: NDArray[np.float64], texels: float) -> NDArray[np.float64]:
    """The tile, so many texels narrower on either side."""
    left, right = tile[[0, 3]], tile[[1, 2]]
    across = (right - left) / np.linalg.norm(right - left, axis=1, keepdims=True)
    left, right = left + texels * across, right - texels * across
    return np.array([left[0], right[0], right[1], left[1]])


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Points as cv2's fixed-point corners."""
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)
