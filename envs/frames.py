"""Frames of any environment: its observations or, if these are no pictures, its renderings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.checks import CheckedEnv
from envs.config import RENDER, EnvConfig
from envs.errors import EnvError
from envs.pictures import (
    EXPECTED,
    NotAPictureError,
    PictureFormat,
    as_array,
    declares_picture,
    describe_value,
    is_picture,
)
from envs.views import View

# Makes the environment again, so that it can be drawn.
Drawable = Callable[[], CheckedEnv]


class FrameEnv(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper whose observations are RGB frames in a view, uint8 (size, size, 3).

    The observation key and the first observation decide whether the frames are the environment's
    observations or its rendered pictures. All later frames must have the format of the first frame.
    `render()` returns an RGB picture in the original size. If the environment cannot render, this
    picture is the latest frame.
    """

    def __init__(
        self, env: CheckedEnv, config: EnvConfig, view: View, drawable: Drawable | None
    ) -> None:
        """Wrap `env`.

        Args:
            config: configuration of the environment, with the key of the picture in a Dict
                observation.
            drawable: function that makes the same environment with `render_mode="rgb_array"`, or
                None if `env` already has this render mode.
        """
        super().__init__(env)
        self._config, self._view, self._drawable = config, view, drawable
        self.observation_space = spaces.Box(0, 255, (view.size, view.size, 3), np.uint8)
        self._key: str | None = None  # of a Dict observation
        self._drawn = False
        self._formats: dict[str, PictureFormat | None] = {}  # by the source of the pictures
        self._latest: NDArray[np.uint8] | None = None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames before the view resizes them; known after a reset."""
        assert self._latest is not None, "there is a frame from the first reset on"
        height, width, _ = self._latest.shape
        return height, width

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode and return its first frame.

        Raises:
            EnvError: the observation contains no picture and the environment cannot render, or the
                observation key does not select exactly one picture.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        if self._latest is None:
            self._choose(observation)
            if self._drawn and self._drawable is not None:
                made, self._drawable = self._drawable(), None
                self.env.close()
                self.env = made
                observation, info = self.env.reset(seed=seed, options=options)
        return self._frame(observation), info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Step the environment, and return a frame in place of the observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._frame(observation), float(reward), terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """Return a picture in the original size, uint8 (H, W, 3)."""
        if self._drawn or self._drawable is not None or not can_draw(self.env):
            assert self._latest is not None, "there is a frame from the first reset on"
            return self._latest
        return self._rgb(self.env.render(), "render()")

    def _choose(self, observation: Any) -> None:
        """Decide from the first observation whether the frames are observations or renderings."""
        key, space = self._config.observation_key, getattr(self.env, "observation_space", None)
        entries = observation if isinstance(observation, Mapping) else {}
        declared = space.spaces if isinstance(space, spaces.Dict) else {}
        names = [name for name, entry in entries.items() if is_picture(entry, declared.get(name))]
        if key is None and len(names) > 1:
            raise EnvError(
                f"the observations of {self._config} contain several pictures, "
                f"{', '.join(map(str, names))}: select one of them with --observation-key, or use "
                f"--observation-key {RENDER} to render the environment"
            )
        if key not in (None, RENDER, *names):
            what, got = f"an entry {key} in the observations", ", ".join(entries) or "no Dict"
            if key in entries:
                what, got = f"a picture ({EXPECTED}) as {key}", describe_value(entries[key])
            raise EnvError(
                f"expected {what} of {self._config.env_id}, got {got}: choose another key with "
                f"--observation-key, or use --observation-key {RENDER} to render the environment"
            )
        self._drawn = key == RENDER or not (names or is_picture(observation, space))
        if names and not self._drawn:
            self._key = key or names[0]
        if self._drawn and not can_draw(self.env):
            raise EnvError(
                f"expected pictures ({EXPECTED}) as observations of {self._config}, or the render "
                f"mode rgb_array, got observations that are {describe_value(observation)}, and the "
                f"render modes {list(self.env.metadata.get('render_modes') or [])}"
            )

    def _frame(self, observation: Any) -> NDArray[np.uint8]:
        source = "the observation"
        if self._drawn:
            source, observation = "render()", self.env.render()
        elif self._key is not None:
            source = f"the observation's {self._key}"
            if isinstance(observation, Mapping):
                observation = observation.get(self._key)
        self._latest = self._rgb(observation, source)
        return self._view(self._latest)

    def _rgb(self, picture: Any, source: str) -> NDArray[np.uint8]:
        """Convert a picture to RGB.

        All pictures from `source` must have the same format.
        """
        array = as_array(picture)
        format_ = self._formats.get(source) or PictureFormat.of(array)
        self._formats[source] = format_
        try:
            if format_ is None:
                raise NotAPictureError(
                    f"expected a picture ({EXPECTED}), got {describe_value(picture)}"
                )
            return format_.rgb(array)
        except NotAPictureError as error:
            location = self.env.get_wrapper_attr("location")
            raise EnvError(f"{location}, {source}: {error}") from error


def seems_drawn(config: EnvConfig, space: Any) -> bool:
    """Whether `config` and the observation space require frames from `render()`."""
    if config.observation_key is not None:
        return config.observation_key == RENDER
    entries = space.values() if isinstance(space, spaces.Dict) else [space]
    return not any(declares_picture(entry) for entry in entries)


def can_draw(env: gym.Env[Any, Any]) -> bool:
    """Whether the environment declares that it can render pictures."""
    return "rgb_array" in (env.metadata.get("render_modes") or ())
