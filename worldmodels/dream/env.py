"""Gymnasium environments whose episodes are dreams of a run, for any RL library.

One step of the environment is one agent step. The reward of a step is the reward that M expects. At
each step the episode terminates with the probability that M predicts. An episode that reaches the
horizon is truncated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodels.dream.episodes import Dreams, DreamSettings
from worldmodels.errors import UserError
from worldmodels.runs.run import Run

RENDER_MODES = ["rgb_array"]


class DreamVectorEnv(VectorEnv[np.ndarray, Any, np.ndarray]):
    """A Gymnasium vector environment of many dreams of one run; see `make_dream`.

    The vector environment uses Gymnasium's next-step autoreset. The step after the end of a dream
    restarts this dream at a new state. The step that restarts a dream ignores the action for this
    dream, and the dream's reward is 0.
    """

    def __init__(
        self,
        run: str | Path | Run,
        num_envs: int,
        settings: DreamSettings,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"expected at least 1 dream, got {num_envs}")
        if render_mode not in (None, *RENDER_MODES):
            raise UserError(f'render_mode must be None or "rgb_array", got "{render_mode}"')
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.dreams = Dreams(run, num_envs, settings)
        self.metadata = {
            "render_modes": RENDER_MODES,
            "autoreset_mode": AutoresetMode.NEXT_STEP,
            "render_fps": self.dreams.frames_per_second,
        }
        self.single_observation_space = self.dreams.observation_space
        self.single_action_space = self.dreams.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._over: np.ndarray | None = None
        self._generators: list[np.random.Generator] | None = None  # None: one for all dreams

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all dreams at new states; the same seed gives the same dreams.

        Args:
            seed: an integer seeds one generator, which all dreams share. All dreams are then
                stepped together. A list holds one seed per dream, and None in the list stands for a
                random seed. With a list, each dream equals the dream of a `DreamEnv` with the same
                seed. Dreams with separate generators are stepped one by one, so a step takes
                longer. If `seed` itself is None, the present generators stay in use.

        Raises: UserError if the options contain "reset_mask" or if the list of seeds has the wrong
            length; gymnasium.error.ClosedEnvironmentError if the environment is closed.
        """
        _check_open(self, self.closed)
        if options and "reset_mask" in options:
            raise UserError("dreams reset automatically, so reset does not accept a reset_mask")
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            self._generators = None
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise UserError(f"expected {self.num_envs} seeds, one per dream, got {len(seed)}")
            self._generators = [seeding.np_random(each)[0] for each in seed]
        self._over = np.zeros(self.num_envs, dtype=bool)
        self._begin(np.arange(self.num_envs))
        return self.dreams.observe(), {}

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one agent step in every dream, but restart each dream that has already ended.

        Raises: gymnasium.error.ClosedEnvironmentError if the environment is closed.
        """
        _check_open(self, self.closed)
        if self._over is None:
            raise ResetNeeded("expected a reset before the first step: call reset()")
        going = np.flatnonzero(~self._over)
        # All actions are encoded first, so that wrong ones are refused before any dream steps.
        encoded = self.dreams.encode(going, _checked_actions(self.action_space, actions))
        rewards = np.zeros(self.num_envs)
        ended, cut = np.zeros((2, self.num_envs), dtype=bool)
        for rows, generator in self._by_generator(going):
            rewards[rows], ended[rows], cut[rows] = self.dreams.step(rows, encoded, generator)
        self._begin(np.flatnonzero(self._over))
        self._over = ended | cut
        return self.dreams.observe(), rewards, ended, cut, {}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return the decoded frames of all dreams, or None if `render_mode` is None."""
        _check_open(self, self.closed)
        return None if self.render_mode is None else tuple(self.dreams.frames())

    def _begin(self, chosen: np.ndarray) -> None:
        for rows, generator in self._by_generator(chosen):
            self.dreams.begin(rows, generator)

    def _by_generator(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.random.Generator]]:
        """Group the dreams with the indices `rows` by the generator that each dream uses."""
        if self._generators is not None:
            return [(np.array([row]), self._generators[row]) for row in rows]
        return [(rows, self.np_random)] if len(rows) else []


class DreamEnv(gym.Env[np.ndarray, Any]):
    """One dream of a run, made by `gymnasium.make("worldmodels/Dream-v0", run="runs/demo")`.

    This environment behaves like a `DreamVectorEnv` of one dream, but has no autoreset.

    Args:
        settings: fields of `DreamSettings`, as keyword arguments.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012  as in Gymnasium

    def __init__(
        self, run: str | Path | Run, render_mode: str | None = None, **settings: Any
    ) -> None:
        self._vector = DreamVectorEnv(run, 1, DreamSettings(**settings), render_mode)
        self.render_mode = render_mode
        self.dreams = self._vector.dreams
        self.metadata = {**self.metadata, "render_fps": self.dreams.frames_per_second}
        self.observation_space = self.dreams.observation_space
        self.action_space = self.dreams.action_space
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the dream at a new state; the same seed gives the same dream.

        A reset also reopens a closed dream, because the checks of Stable-Baselines3 rely on this
        behavior.
        """
        super().reset(seed=seed)
        self._vector.closed = False
        self._vector.np_random = self.np_random
        self._over = False
        return self._vector.reset()[0][0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one agent step."""
        _check_open(self, self._vector.closed)
        if self._over:
            raise ResetNeeded("expected a reset before the first step and after the end of a dream")
        native = _checked_actions(self.action_space, action)
        observations, rewards, ended, cut, _ = self._vector.step(native[None])
        self._over = bool(ended[0] or cut[0])
        return observations[0], float(rewards[0]), bool(ended[0]), bool(cut[0]), {}

    def render(self) -> np.ndarray | None:
        """Return the decoded frame, or None if `render_mode` is None."""
        _check_open(self, self._vector.closed)
        frames = self._vector.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Close the dream; afterwards only `close` and `reset` are allowed."""
        self._vector.close()


def make_dream(
    run: str | Path | Run,
    num_envs: int = 64,
    temperature: float = 1.0,
    *,
    render_mode: str | None = None,
    device: str = "cpu",
    **settings: Any,
) -> DreamVectorEnv:
    """Make a Gymnasium vector environment of `num_envs` dreams of a run.

    Example::

        dreams = worldmodels.make_dream("runs/demo", num_envs=64, temperature=1.15)
        observations, _ = dreams.reset(seed=0)
        actions = dreams.action_space.sample()
        observations, rewards, terminated, truncated, _ = dreams.step(actions)

    One step of the environment is one agent step. The reward of a step is the reward that M
    expects, summed over the env steps of the agent step. By default, an observation is [z, h], the
    input of C, as float32 (F,). The action space is that of the real env. Actions are clipped to
    the bounds of the action space if this space is a Box. At each step the episode terminates with
    the probability that M predicts. The episode also terminates if the dream leaves the `Support`.
    An episode that reaches the horizon without terminating is truncated.

    `reset(seed=int)` seeds one generator for all dreams. `reset(seed=[...])` seeds a separate
    generator for each dream.

    Args:
        run: the folder of a run that has a trained V and M.
        temperature, device, settings: see `DreamSettings`.
        render_mode: "rgb_array" makes `render` return decoded frames.

    Raises: UserError if the run lacks V, M or episodes, or if a setting is invalid. `step` raises
        UserError for actions of the wrong shape or type.
    """
    chosen = DreamSettings(temperature=temperature, device=device, **settings)
    return DreamVectorEnv(run, num_envs, chosen, render_mode)


def _check_open(env: object, closed: bool) -> None:
    if closed:
        raise ClosedEnvironmentError(
            f"expected an open environment, but this {type(env).__name__} is closed"
        )


def _checked_actions(space: spaces.Space[Any], actions: Any) -> np.ndarray:
    native = np.asarray(actions)
    if native.shape != space.shape or native.dtype.kind not in "biuf":
        raise UserError(
            f"actions must be numbers of shape {space.shape}, got values of type {native.dtype} "
            f"and shape {native.shape}"
        )
    return native
