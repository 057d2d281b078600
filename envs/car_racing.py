"""CarRacing-v3 with fast drawing, and the same physics, tracks, rewards and ends, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import error, spaces
from gymnasium.envs.box2d.car_racing import CarRacing, FrictionDetector
from gymnasium.utils import EzPickle

from envs.car_physics import patch_fast_physics
from envs.renderer import VIEWS, Renderer


class TileContactListener(FrictionDetector):
    """Gymnasium's contact listener, which also records tiles at a wheel's first contact."""

    def __init__(self, env: FastCarRacing, lap_complete_percent: float) -> None:
        """Listen to `env`; `new_tiles` collects tile indices until the next frame is drawn."""
        super().__init__(env, lap_complete_percent)  # type: ignore[no-untyped-call]
        self.new_tiles: list[int] = []
        self._visited: set[int] = set()

    def _contact(self, contact: Any, begin: bool) -> None:
        super()._contact(contact, begin)  # type: ignore[no-untyped-call]
        if not begin:
            return
        for fixture in (contact.fixtureA, contact.fixtureB):
            tile = fixture.body.userData
            if tile and "road_friction" in tile.__dict__ and tile.idx not in self._visited:
                self._visited.add(tile.idx)
                self.new_tiles.append(tile.idx)


class FastCarRacing(CarRacing):
    """Gymnasium's CarRacing with observations that are drawn directly, dozens of times as fast.

    Observations are uint8. `view="paper"` gives (64, 64, 3): rows 0:84 of the stock frame's 96,
    area-resized. `view="stock"` gives (96, 96, 3), including indicators. Both are within 0.5/255 of
    Gymnasium's in mean absolute difference over an episode. Everything else, including `render()`,
    is Gymnasium's.
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
        """Take Gymnasium's arguments, and `view`, the kind of observations: "paper" or "stock".

        Raises:
            gymnasium.error.UnsupportedMode: an unknown view.
        """
        if view not in VIEWS:
            raise error.UnsupportedMode(f"expected a view of {sorted(VIEWS)}, got {view!r}")
        arguments = (render_mode, verbose, lap_complete_percent, domain_randomize, continuous)
        super().__init__(*arguments)
        EzPickle.__init__(self, *arguments, view)
        self.view = view
        self.observation_space = spaces.Box(0, 255, VIEWS[view].shape, np.uint8)
        self._renderer = Renderer(view)
        self._listener: TileContactListener | None = None
        self._is_resetting = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset like Gymnasium's CarRacing, which ends a reset with a step without an action."""
        self._is_resetting = True
        try:
            result: tuple[Any, dict[str, Any]] = super().reset(seed=seed, options=options)
            return result
        finally:
            self._is_resetting = False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step like Gymnasium's CarRacing, but raise for invalid actions, which it executes.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset(), or after close().
            gymnasium.error.InvalidAction: continuous: not three finite numbers, steering in
                -1 to 1, gas and brake in 0 to 1; discrete: not 0 to 4.
        """
        if self._listener is None:
            raise error.ResetNeeded("expected reset() before step(), got no track")
        if self._is_resetting:
            assert self.car is not None  # reset() has just made it
            patch_fast_physics(self.car)
        elif self.continuous:
            action = _checked_action(action)
        elif action is None:  # Gymnasium raises for all other invalid actions
            raise error.InvalidAction(f"expected an action in {self.action_space}, got None")
        result: tuple[Any, Any, bool, bool, dict[str, Any]] = super().step(action)
        return result

    def _create_track(self) -> bool:
        """Create the track, paint it, and listen for touched tiles.

        reset() calls this until it succeeds, after setting its own listener and before the first
        physics step, so that no contact is missed.
        """
        if not super()._create_track():  # type: ignore[no-untyped-call]
            return False
        self._listener = TileContactListener(self, self.lap_complete_percent)
        self.world.contactListener_bug_workaround = self._listener  # Box2D keeps no reference
        self.world.contactListener = self._listener
        self._renderer.paint(self)
        return True

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels" or self._listener is None:
            return super()._render(mode)
        frame = self._renderer.draw(self, self._listener.new_tiles)
        self._listener.new_tiles.clear()
        return frame

    def close(self) -> None:
        """Close like Gymnasium's CarRacing, and release the painted track.

        Env, world and listener refer to each other: until Python's garbage collector runs, every
        closed environment would keep 5 MB, or 12 MB in the stock view. Bodies that stay in a Box2D
        world are never freed: with 300 bodies, or 0.3 MB, per environment, an hour of playing took
        8 GB.
        """
        if self.car is not None and self.car.hull is not None:  # no reset was interrupted
            self._destroy()  # type: ignore[no-untyped-call]
        super().close()  # type: ignore[no-untyped-call]
        self._renderer = Renderer(self.view)
        self._listener = None


def _checked_action(action: Any) -> np.ndarray:
    """Return the action as an array; raise unless it lies in the action space."""
    array = np.asarray(action)
    if array.shape == (3,) and array.dtype.kind in "fiu":
        steer, gas, brake = array.tolist()
        # Comparisons with NaN are false. This is four times as fast as the space's `contains`.
        if -1 <= steer <= 1 and 0 <= gas <= 1 and 0 <= brake <= 1:
            return array
    raise error.InvalidAction(
        "expected an action of three numbers, steering in -1 to 1, gas and brake in 0 to 1, "
        f"got {action!r}"
    )
