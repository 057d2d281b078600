"""CarRacing-v3 drawn fast: the same physics, tracks, rewards and ends, bit for bit."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from gymnasium import spaces
from gymnasium.envs.box2d.car_racing import (
    SCALE,
    ZOOM,
    CarRacing,
    FrictionDetector,
)
from gymnasium.utils import EzPickle
from jaxtyping import UInt8

from envs.renderer import TrackPicture, arriving, draw_car

VIEW_SIZE = 64


class TouchListener(FrictionDetector):
    """Gymnasium's contact listener, which also notes the tiles whose colour a wheel wore off."""

    def __init__(self, env: FastCarRacing, lap_complete_percent: float) -> None:
        """Listen for `env`; `touched` collects tile indices until the next frame is drawn."""
        super().__init__(env, lap_complete_percent)
        self.touched: set[int] = set()

    def _contact(self, contact: Any, begin: bool) -> None:
        super()._contact(contact, begin)
        for fixture in (contact.fixtureA, contact.fixtureB):
            body = fixture.body.userData
            if body and "road_friction" in body.__dict__:
                self.touched.add(body.idx)


class FastCarRacing(CarRacing):
    """Gymnasium's CarRacing whose observations are the paper's 64x64 view, drawn directly.

    Observations: uint8 (64, 64, 3), the stock frame's rows 0:84 of 96, area-resized; 0.5/255
    mean absolute difference from it. Everything else, `render()` included, is Gymnasium's.
    """

    def __init__(
        self,
        render_mode: str | None = None,
        verbose: bool = False,
        lap_complete_percent: float = 0.95,
        domain_randomize: bool = False,
        continuous: bool = True,
        view: str = "paper",
    ) -> None:
        """As Gymnasium's, and `view`: what is observed, so far "paper" alone.

        Raises:
            ValueError: an unknown view.
        """
        if view != "paper":
            raise ValueError(
                f'expected view="paper" (64x64, no indicators), got {view!r}: '
                'use gymnasium.make("CarRacing-v3") for the stock 96x96 frames'
            )
        super().__init__(render_mode, verbose, lap_complete_percent, domain_randomize, continuous)
        EzPickle.__init__(
            self, render_mode, verbose, lap_complete_percent, domain_randomize, continuous, view
        )
        self.view = view
        self.observation_space = spaces.Box(0, 255, (VIEW_SIZE, VIEW_SIZE, 3), np.uint8)
        self._picture = TrackPicture()
        self._listener: TouchListener | None = None

    def _create_track(self) -> bool:
        """Also paint the track, and listen for touched tiles.

        reset() calls this, again until it succeeds, after its own listener went in and before
        the first physics step, so that no contact is missed.
        """
        created: bool = super()._create_track()
        if not created:
            return False
        self._listener = TouchListener(self, self.lap_complete_percent)
        self.world.contactListener_bug_workaround = self._listener  # Box2D keeps no reference
        self.world.contactListener = self._listener
        # In road_poly a curb's colour is a plain tuple, a tile's the array that contacts change.
        polygons = [(np.array(corners), color) for corners, color in self.road_poly]
        self._picture.paint(
            tiles=[(at, arriving(c)) for at, c in polygons if not isinstance(c, tuple)],
            curbs=[(at, arriving(c)) for at, c in polygons if isinstance(c, tuple)],
            road_color=arriving(self.road_color),
            background_color=arriving(self.bg_color),
            grass_color=arriving(self.grass_color),
        )
        return True

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        return self._draw()

    def _draw(self) -> UInt8[np.ndarray, "64 64 3"]:
        assert self.car is not None and self._listener is not None  # reset() made both
        for index in self._listener.touched:
            self._picture.wear(index)
        self._listener.touched.clear()
        # Source: gymnasium's CarRacing._render: the first second zooms in.
        zoom = 0.1 * SCALE * max(1 - self.t, 0) + ZOOM * SCALE * min(self.t, 1)
        hull = self.car.hull
        frame = self._picture.crop(tuple(hull.position), hull.angle, zoom)
        draw_car(frame, self.car, zoom)
        return cv2.resize(frame, (VIEW_SIZE, VIEW_SIZE), interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        """As Gymnasium's; also lets go of the painted track.

        Env, world and listener refer to each other: until Python's collector comes by, every
        closed environment would keep 11 MB.
        """
        super().close()
        self._picture = TrackPicture()
