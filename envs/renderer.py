"""Fast drawing of CarRacing's frames, which show the track, the car and the indicators.

At each step, Gymnasium draws a window of 1000x800 pixels and shrinks the window to 96x96 pixels.
Drawing and shrinking take 98 % of the time of a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing
from jaxtyping import UInt8
from numpy.typing import NDArray

from envs.camera import STOCK_CAMERA, Camera, Color, after_smoothscale, camera_zoom
from envs.car_sprites import car_sprites
from envs.indicators import draw_indicators
from envs.track_picture import TrackPicture
from envs.views import PAPER_VIEW, View


@dataclass(frozen=True)
class DrawnView:
    """The settings with which a view of CarRacing is drawn.

    `shape` is the shape of a frame. The first rows of a frame show the picture of `camera`, and
    indicators fill the other rows. `density` is the number of texels (pixels of the track's
    texture) per world unit. In a frame, a world unit is 1 x 1.5 pixels in the paper's view, and
    1.6 x 1.9 pixels in the stock view. `of_stock` is the `View` that makes this view's frame from
    Gymnasium's frame, or None if this view's frame is the same as Gymnasium's.
    """

    shape: tuple[int, int, int]
    camera: Camera
    density: float
    of_stock: View | None


# Coarser textures are blurred, and finer ones undersampled. In the paper's view, densities of 1.2
# and 1.7 raise the squared error from 2.8 to 3.6 and 3.1. In the stock view, a density of 1.7 has
# an error of 4.0, 2.1 has 2.1, and 2.3 has 1.75.
VIEWS = {
    "paper": DrawnView((64, 64, 3), Camera(columns=64, rows=64), 1.4, PAPER_VIEW),
    "stock": DrawnView((96, 96, 3), STOCK_CAMERA, 2.2, None),
}


class Renderer:
    """Draws one environment's frames in one view."""

    def __init__(self, view: str) -> None:
        """Prepare a renderer that has no track yet; call `paint` before `draw`."""
        drawn = VIEWS[view]
        self._camera, self._shape = drawn.camera, drawn.shape
        self._track = TrackPicture(drawn.density)
        self._car = car_sprites(self._camera)

    def paint(self, env: CarRacing) -> None:
        """Paint the track that `env` has just created."""
        # In road_poly, a curb's color is a plain tuple; a tile's color is an array that contacts
        # change.
        tiles: list[tuple[NDArray[np.float64], Color]] = []
        curbs: list[tuple[NDArray[np.float64], Color]] = []
        for corners, color in env.road_poly:
            polygons = curbs if isinstance(color, tuple) else tiles
            polygons.append((np.array(corners), after_smoothscale(color)))
        colors = map(after_smoothscale, (env.road_color, env.bg_color, env.grass_color))
        self._track.paint(tiles, curbs, *colors)

    def draw(self, env: CarRacing, new_tiles: Iterable[int]) -> UInt8[np.ndarray, "height width 3"]:
        """Return the current frame of `env`, in the view's shape.

        Args:
            new_tiles: indices of the tiles that the car has touched since the last frame. A touched
                tile gets the plain color of the road.
        """
        for index in new_tiles:
            self._track.mark_visited(index)
        car: Any = env.car
        hull = car.hull
        crop = self._track.crop(self._camera, tuple(hull.position), hull.angle, camera_zoom(env.t))
        frame = np.empty(self._shape, dtype=np.uint8)
        playfield = frame[: self._camera.rows]
        cv2.cvtColor(crop, cv2.COLOR_BGRA2BGR, dst=playfield)
        self._car.draw(playfield, car, env.t)
        if len(playfield) < len(frame):
            draw_indicators(frame[len(playfield) :], env)
        return frame
