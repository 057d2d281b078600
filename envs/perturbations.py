"""Perturbations of CarRacing's pictures: changed colors, bars at the border, or a red square.

Only the pictures change; physics, tracks, rewards and ends of episodes stay the same. Perturbations
apply to Gymnasium's `CarRacing-v3` and to `worldmodels/CarRacing-v3`.

Source: Tang, Nguyen & Ha, arXiv 2003.08165, and the environments that these authors published.
Differs: the published environments use CarRacing-v0, whose camera turns with the direction of the
car's velocity. The camera of CarRacing-v3 turns with the hull, so the red square keeps its place in
the picture even when the car slides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.box2d.car_racing import WINDOW_H, WINDOW_W, CarRacing

from envs.camera import CAR_X, CAR_Y, PLAYFIELD_HEIGHT, Color, after_smoothscale, camera_zoom
from envs.overlays import WindowRectangle, blend
from envs.renderer import VIEWS

_PLAYFIELD_PART = PLAYFIELD_HEIGHT / WINDOW_H  # part of the window's height above indicators


class _Perturbation(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """A wrapper of CarRacing; wrappers that crop or resize frames must be outside this wrapper.

    Raises:
        TypeError: `env` is not CarRacing, or another wrapper has changed the observations.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        car_racing = env.unwrapped
        if not isinstance(car_racing, CarRacing):
            raise TypeError(f"expected CarRacing as the environment to perturb, got {env}")
        self._car_racing = car_racing
        view = getattr(car_racing, "view", "stock")
        changed = env.observation_space != car_racing.observation_space
        if changed or view not in VIEWS:
            raise TypeError(
                f"expected CarRacing's own observations, of shape "
                f"{car_racing.observation_space.shape} in a view among {sorted(VIEWS)}, "
                f"got observations of shape {env.observation_space.shape} in the view {view!r}: "
                "apply the perturbation before ViewObservation"
            )
        if env.render_mode not in (None, *car_racing.metadata["render_modes"]):
            raise TypeError(
                f"expected a render mode among {car_racing.metadata['render_modes']}, "
                f"got {env.render_mode!r}: apply the perturbation before RenderCollection"
            )
        self._view = VIEWS[view].of_stock


class ColorPerturbation(_Perturbation):
    """A perturbation that makes the lane and the grass lighter or darker, anew at every reset.

    The amounts for the lane and for the grass are random. Each amount is uniform in [-0.2, 0.2],
    where 1 is the full scale of a channel. The amount is added equally to red, green and blue.
    `reset` returns the two amounts, (lane, grass), as `info["color_shift"]`. A separate random
    generator draws the amounts. A reset with a seed makes a new generator from this seed; a reset
    without a seed continues with the existing generator. The perturbation does not change which
    track belongs to a seed.

    Source: the environments published with arXiv 2003.08165. As in the published environments, the
    curbs and the lighter squares of the grass keep their colors. Until a wheel touches a tile of
    the lane, the tile is lighter than the lane's color by 0, 1 or 2 hundredths of full scale.
    Differs: the published environments draw the amounts from NumPy's global generator.

    Raises:
        TypeError: `env` is not CarRacing, or another wrapper has changed the observations.
        ValueError: the environment has `domain_randomize=True` and chooses its colors itself.
    """

    LARGEST_SHIFT = 0.2
    LANE_COLOR = (102, 102, 102)
    GRASS_COLOR = (102, 204, 102)

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap `env`, which must be CarRacing, before any wrapper changes its frames."""
        super().__init__(env)
        if self._car_racing.domain_randomize:
            raise ValueError(
                "expected CarRacing with domain_randomize=False, got domain_randomize=True, "
                "which replaces the perturbed colors by other colors"
            )
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw new colors and reset; `info["color_shift"]` contains the amounts (lane, grass)."""
        if seed is not None:
            # The spawn key makes this generator differ from the environment's own of the same seed.
            sequence = np.random.SeedSequence(seed, spawn_key=tuple(b"color"))
            self._rng = np.random.default_rng(sequence)
        lane, grass = self._rng.uniform(-self.LARGEST_SHIFT, self.LARGEST_SHIFT, size=2).tolist()
        self._car_racing.road_color = _shifted(self.LANE_COLOR, lane)
        self._car_racing.bg_color = _shifted(self.GRASS_COLOR, grass)
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "color_shift": (lane, grass)}


def _shifted(color: Color, shift: float) -> np.ndarray:
    """Return `color` + 255 * `shift`, rounded to integers like CarRacing's colors."""
    return np.rint(np.array(color) + 255 * shift).astype(int)


class _Overlay(_Perturbation, gym.ObservationWrapper[Any, Any, Any]):
    """A perturbation that draws rectangles over observations and over the pictures of `render()`.

    With `render_mode="human"`, the window on the screen does not show the rectangles.
    """

    COLOR: Color

    def rectangles(self) -> tuple[WindowRectangle, ...]:
        """Return the rectangles to draw at the current step."""
        raise NotImplementedError

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Return the observation with the rectangles drawn on it."""
        return blend(observation, self.rectangles(), self.COLOR, view=self._view)

    def render(self) -> Any:
        """Return the environment's picture with the rectangles drawn on it."""
        picture = self.env.render()
        if self.render_mode == "human" or not isinstance(picture, np.ndarray):
            return picture
        view = None if self.render_mode == "rgb_array" else self._view
        return blend(picture, self.rectangles(), self.COLOR, view=view)


class BarsPerturbation(_Overlay):
    """Two black bars at the left and the right border, from the top to the indicators.

    The width of each bar is 3/40 of the window's width.

    Source: the environments published with arXiv 2003.08165.

    Raises:
        TypeError: `env` is not CarRacing, or another wrapper has changed the observations.
    """

    COLOR = after_smoothscale((0, 0, 0))
    WIDTH = 3 / 40

    def rectangles(self) -> tuple[WindowRectangle, ...]:
        """Return both bars."""
        left = WindowRectangle(0.0, 0.0, self.WIDTH, _PLAYFIELD_PART)
        return left, WindowRectangle(1.0 - self.WIDTH, 0.0, 1.0, _PLAYFIELD_PART)


class BlobPerturbation(_Overlay):
    """A red square ahead of the car and to its right, which moves and turns with the car.

    The square measures 8 x 8 world units. The hull's rear right corner has the coordinates x = 1
    and y = -2.4. The rear left corner of the square is 20 units to the right of this corner, and 10
    units ahead of this corner.

    Source: the environments published with arXiv 2003.08165.

    Raises:
        TypeError: `env` is not CarRacing, or another wrapper has changed the observations.
    """

    COLOR = after_smoothscale((204, 0, 0))
    NEAR_LEFT = (1.0 + 20, -2.4 + 10)  # to the right and ahead of the hull's origin
    SIDE = 8.0

    def rectangles(self) -> tuple[WindowRectangle, ...]:
        """Return the square, whose size depends on the camera's current zoom."""
        zoom = camera_zoom(self._car_racing.t)
        left, near = self.NEAR_LEFT
        square = WindowRectangle(
            left=(CAR_X + left * zoom) / WINDOW_W,
            top=(CAR_Y - (near + self.SIDE) * zoom) / WINDOW_H,
            right=(CAR_X + (left + self.SIDE) * zoom) / WINDOW_W,
            bottom=(CAR_Y - near * zoom) / WINDOW_H,
        )
        return (square,)


PERTURBATIONS: Mapping[str, type[_Perturbation]] = {
    "color": ColorPerturbation,
    "bars": BarsPerturbation,
    "blob": BlobPerturbation,
}


def perturb(env: gym.Env[Any, Any], name: str) -> gym.Env[Any, Any]:
    """Wrap `env` in the perturbation `name`, which is a key of `PERTURBATIONS`.

    Perturbations can be nested. All wrappers that crop, resize or stack frames must be outside the
    perturbations.

    Raises:
        ValueError: no perturbation has this name, or the perturbation changes colors and the
            environment has `domain_randomize=True`.
        TypeError: `env` is not CarRacing, or another wrapper has changed the observations.
    """
    if name not in PERTURBATIONS:
        raise ValueError(f"expected a perturbation among {sorted(PERTURBATIONS)}, got {name!r}")
    return PERTURBATIONS[name](env)
