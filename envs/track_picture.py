"""A texture into which a track is painted once; each frame is an affine warp of the texture.

A texel, which is a pixel of the texture, has three bytes of color and one unused byte. The unused
byte saves time: OpenCV warps a texture with four channels in 9 us, but a texture with three
channels in 21 us. The world's y coordinate increases with the row number of the texture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from gymnasium.envs.box2d.car_racing import GRASS_DIM, PLAYFIELD
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray

from envs.camera import Camera, Color
from envs.polygons import fill_polygons

_LEVELS = 6  # each is half the one before; the first second zooms in from 1/27
_MARGIN = 4  # least width of the black border, in texels

# Polygons are filled with hard edges at this many times the resolution, then averaged: cv2's own
# soft edges leave a dark dot at every corner, which makes a dashed line along the road.
_SUPERSAMPLING = 4
_EDGE_WIDTH = 0.06  # texels by which a filled polygon is too wide on either side
_INNER_EDGE_WIDTH = 1.0  # painting a tile must not change the road's soft edge


class TrackPicture:
    """Textures of one track at several resolutions, from which frames are cut.

    All tracks use the same arrays: `paint` overwrites the arrays with a new track.
    """

    def __init__(self, density: float) -> None:
        """Prepare textures without a track. The finest one has `density` texels per world unit."""
        self.density = density
        size = _texture_size(density)
        self._textures = [
            np.zeros((size >> level, size >> level, 4), dtype=np.uint8) for level in range(_LEVELS)
        ]
        self._tiles = np.zeros((0, 4, 2))
        self._road_color: Color = (0, 0, 0)
        self._level = _LEVELS - 1  # level of the last crop

    def paint(
        self,
        tiles: Sequence[tuple[Float64[np.ndarray, "4 2"], Color]],
        curbs: Sequence[tuple[Float64[np.ndarray, "4 2"], Color]],
        road_color: Color,
        background_color: Color,
        grass_color: Color,
    ) -> None:
        """Paint a track of tiles and curbs.

        The four corners of a tile are in this order: left end, right end, right start, left start.
        """
        finest = self._textures[0]
        np.copyto(finest, _grass(self.density, background_color, grass_color))
        corners = _texels([at for at, _ in tiles], self.density)
        _fill(finest, _inset(corners, _EDGE_WIDTH), road_color)
        self._tiles, self._road_color = _inset(corners, _INNER_EDGE_WIDTH), road_color
        for tile, (_, color) in zip(self._tiles, tiles, strict=True):
            if color != road_color:
                fill_polygons(finest, [tile], color)
        # One track in 150 has a curb of no width, at the end of a bend. In the stock picture it is
        # a hairline, a tenth of a pixel wide.
        curbs = [(at, color) for at, color in curbs if (at[0] != at[1]).any()]
        edges = _inset(_texels([at for at, _ in curbs], self.density), _EDGE_WIDTH)
        for curb, (_, color) in zip(edges, curbs, strict=True):
            _fill(finest, curb[None], color)
        for fine, coarse in zip(self._textures, self._textures[1:], strict=False):
            cv2.resize(fine, coarse.shape[1::-1], dst=coarse, interpolation=cv2.INTER_AREA)
        self._level = _LEVELS - 1

    def mark_visited(self, index: int) -> None:
        """Paint tile `index`, which the car has touched, in the plain color of the road."""
        # The camera only zooms in, so levels coarser than the last crop's are not used again.
        for level, texture in enumerate(self._textures[: self._level + 1]):
            fill_polygons(texture, [self._tiles[index] / 2**level], self._road_color)

    def crop(
        self, camera: Camera, position: tuple[float, float], angle: float, zoom: float
    ) -> UInt8[np.ndarray, "{camera.rows} {camera.columns} 4"]:
        """Return the camera's picture of the playfield, given the car's position and direction.

        `angle` is the car's direction in radians, and `zoom` is in window pixels per world unit.
        Between two calls of `paint`, the zoom must not decrease.
        """
        # A row has two texels or fewer, so that linear interpolation skips none.
        texels_per_row = self.density / (zoom * camera.y_scale)
        self._level = min(max(int(math.log2(texels_per_row)), 0), _LEVELS - 1)
        texture, density = self._textures[self._level], self.density / 2**self._level
        x, y = (coordinate * density + len(texture) / 2 for coordinate in position)
        to_texture = camera.to_texture((x, y), angle, zoom, density)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(texture, to_texture, (camera.columns, camera.rows), flags=flags)


@lru_cache(maxsize=2)  # for two views or two colors at the same time
def _grass(
    density: float, background_color: Color, grass_color: Color
) -> UInt8[np.ndarray, "texels texels 4"]:
    """Return a texture of the playfield without a road; texels outside the playfield are black."""
    size = _texture_size(density)
    texture = np.zeros((size, size, 4), dtype=np.uint8)
    square = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    _fill(texture, _texels([(square * 2 - 1) * PLAYFIELD], density), background_color)
    cells = itertools.product(range(-20, 20, 2), repeat=2)
    _fill(texture, _texels([(square + cell) * GRASS_DIM for cell in cells], density), grass_color)
    texture.setflags(write=False)
    return texture


def _fill(
    texture: UInt8[np.ndarray, "texels texels 4"],
    polygons: Float64[np.ndarray, "polygon 4 2"],
    color: Color,
) -> None:
    """Paint convex polygons in one color and with soft edges. The corners are in texels."""
    left, top = np.floor(polygons.min(axis=(0, 1))).astype(int) - 1
    right, bottom = np.ceil(polygons.max(axis=(0, 1))).astype(int) + 1
    box = texture[top:bottom, left:right]
    height, width = box.shape[:2]
    covered = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), dtype=np.uint8)
    fill_polygons(covered, (polygons - (left, top)) * _SUPERSAMPLING, 255)
    covered = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)
    # Whole texels are copied as words, in a tenth of the time of masking three channels.
    texel = np.array([*color, 0], np.uint8)
    np.copyto(box.view(np.uint32), texel.view(np.uint32), where=covered[..., None] == 255)
    rows, columns = np.nonzero(covered - np.uint8(1) < 254)  # partly covered; 0 wraps around to 255
    behind = box[rows, columns]
    fraction = covered[rows, columns, None] / np.float32(255)
    box[rows, columns] = np.rint(behind + (texel.astype(np.float32) - behind) * fraction)


def _texture_size(density: float) -> int:
    """Return the number of texels per side of the finest texture. Every level can halve it."""
    coarsest = 2 ** (_LEVELS - 1)
    return int(math.ceil((2 * PLAYFIELD * density + 2 * _MARGIN) / coarsest) * coarsest)


def _texels(
    world: Sequence[NDArray[np.float64]], density: float
) -> Float64[np.ndarray, "polygon 4 2"]:
    """Convert polygons from world coordinates to texels. Texels count from the texture's corner."""
    points = np.array(world, dtype=np.float64).reshape(-1, 4, 2)
    return points * density + _texture_size(density) / 2


def _inset(
    tiles: Float64[np.ndarray, "tile 4 2"], texels: float
) -> Float64[np.ndarray, "tile 4 2"]:
    """Return the tiles with the left and the right side moved inwards by `texels`."""
    left, right = tiles[:, [0, 3]], tiles[:, [1, 2]]
    across = (right - left) / np.linalg.norm(right - left, axis=2, keepdims=True)
    left, right = left + texels * across, right - texels * across
    return np.stack([left[:, 0], right[:, 0], right[:, 1], left[:, 1]], axis=1)
