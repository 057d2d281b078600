"""CarRacing-v3 with a fast renderer; tracks, physics and rewards are bitwise unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import error, spaces
from gymnasium.envs.box2d.car_racing import CarRacing, FrictionDetector
from gymnasium.utils import EzPickle

from envs.car_physics import patch_fast_physics
from envs.renderer import VIEWS, Renderer


class TileContactListener(FrictionDetector):
    """Gymnasium's contact listener, which in this version also records each newly touched tile."""

    def __init__(self, env: FastCarRacing, lap_complete_percent: float) -> None:
        """Listen to contacts in `env`.

        `new_tiles` lists the tiles that were touched for the first time since the last frame.
        """
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
    """Gymnasium's CarRacing with a faster renderer; env steps are dozens of times as fast.

    Observations are uint8. With `view="paper"`, observations are (64, 64, 3) and show rows 0 to 83
    of the 96 rows of Gymnasium's frame, resized by area averaging. With `view="stock"`,
    observations are (96, 96, 3) and show the whole frame with its indicators. In both views, the
    mean absolute difference from Gymnasium's frames over an episode is at most 0.5 of 255 levels.
    For valid actions, everything except the observations is the same as in Gymnasium's CarRacing,
    including `render()`.
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
        """Take the arguments of Gymnasium's CarRacing, and `view`, which is "paper" or "stock".

        Raises:
            gymnasium.error.UnsupportedMode: `view` is neither "paper" nor "stock".
        """
        if view not in VIEWS:
            raise error.UnsupportedMode(f"expected a view among {sorted(VIEWS)}, got {view!r}")
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
        """Reset like Gymnasium's CarRacing, whose `reset` ends with a step without an action."""
        self._is_resetting = True
        try:
            result: tuple[Any, dict[str, Any]] = super().reset(seed=seed, options=options)
            return result
        finally:
            self._is_resetting = False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step like Gymnasium's CarRacing, but raise an error for an invalid action.

        Gymnasium's CarRacing instead executes continuous actions that lie outside the action space.

        Raises:
            gymnasium.error.ResetNeeded: the environment has not been reset, or is closed.
            gymnasium.error.InvalidAction: a continuous action does not consist of three numbers,
                which are the steering in [-1, 1], the gas in [0, 1] and the brake in [0, 1]; or a
                discrete action is not in 0 to 4.
        """
        if self._listener is None:
            raise error.ResetNeeded("expected a reset before the first step: call reset()")
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
        """Create the track, paint the track, and install the listener for touched tiles.

        `reset` calls this method until the creation of a track succeeds. The method replaces
        Gymnasium's contact listener, which `reset` has set. The replacement comes before the first
        physics step, so that the new listener misses no contact.
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
        """Close the environment, destroy its Box2D bodies, and release the painted track.

        The environment, the Box2D world and the listener refer to each other, so only Python's
        garbage collector frees them. Without the release of the track, a closed environment would
        keep 5 MB until the next garbage collection, or 12 MB in the stock view. A Box2D body that
        is not destroyed is never freed. An environment has 300 bodies, which take 0.3 MB. When
        bodies were not destroyed, an hour of playing left 8 GB of bodies in memory.
        """
        if self.car is not None and self.car.hull is not None:  # no reset was interrupted
            self._destroy()  # type: ignore[no-untyped-call]
        super().close()  # type: ignore[no-untyped-call]
        self._renderer = Renderer(self.view)
        self._listener = None


def _checked_action(action: Any) -> np.ndarray:
    """Return the action as an array; raise InvalidAction for an action outside the space."""
    array = np.asarray(action)
    if array.shape == (3,) and array.dtype.kind in "fiu":
        steer, gas, brake = array.tolist()
        # Comparisons with NaN are false. This is four times as fast as the space's `contains`.
        if -1 <= steer <= 1 and 0 <= gas <= 1 and 0 <= brake <= 1:
            return array
    raise error.InvalidAction(
        "expected an action of three numbers (steering in -1 to 1, gas in 0 to 1 and brake in "
        f"0 to 1), got {action!r}"
    )
