"""The dreams of a run as Gymnasium environments, in which any RL library can train.

One step is one agent step. The reward is the one that M expects. An episode ends with the
probability that M predicts, and is truncated at a horizon.
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
    """Many dreams of one run as a Gymnasium vector environment; see `make_dream`.

    Autoreset is in Gymnasium's next-step mode. In the step after a dream's end the dream starts at
    a new state, its action is ignored, and its reward is 0.
    """

    def __init__(
        self,
        run: str | Path | Run,
        num_envs: int,
        settings: DreamSettings,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"expected 1 dream or more, got {num_envs}")
        if render_mode not in (None, *RENDER_MODES):
            raise UserError(f'expected render_mode None or "rgb_array", got "{render_mode}"')
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
            seed: an integer seeds one generator for all dreams, which are then stepped together.
                A list holds one seed per dream, where None stands for a random seed; each dream
                then equals that of a `DreamEnv` with the same seed. Dreams with separate generators
                are stepped one by one, which is slower. None keeps the present generators.

        Raises: UserError for a "reset_mask" among the options and for a list of the wrong length;
            gymnasium.error.ClosedEnvironmentError after `close`.
        """
        _check_open(self, self.closed)
        if options and "reset_mask" in options:
            raise UserError("dreams reset automatically: expected a reset without reset_mask")
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
        """Take one agent step in every dream; restart the dreams that had ended instead.

        Raises: gymnasium.error.ClosedEnvironmentError after `close`.
        """
        _check_open(self, self.closed)
        if self._over is None:
            raise ResetNeeded("expected a reset before the first step")
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
        """Return the decoded frames of all dreams, or None without `render_mode`."""
        _check_open(self, self.closed)
        return None if self.render_mode is None else tuple(self.dreams.frames())

    def _begin(self, chosen: np.ndarray) -> None:
        for rows, generator in self._by_generator(chosen):
            self.dreams.begin(rows, generator)

    def _by_generator(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.random.Generator]]:
        """Group the dreams of these rows by their generator."""
        if self._generators is not None:
            return [(np.array([row]), self._generators[row]) for row in rows]
        return [(rows, self.np_random)] if len(rows) else []


class DreamEnv(gym.Env[np.ndarray, Any]):
    """One dream of a run: `gymnasium.make("worldmodels/Dream-v0", run="runs/demo")`.

    It is a `DreamVectorEnv` of one dream, without autoreset.

    Args:
        settings: the fields of `DreamSettings`.
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

        A reset also reopens a closed dream, because the checks of Stable-Baselines3 rely on that.
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
            raise ResetNeeded("expected a reset before the first step and after a dream's end")
        native = _checked_actions(self.action_space, action)
        observations, rewards, ended, cut, _ = self._vector.step(native[None])
        self._over = bool(ended[0] or cut[0])
        return observations[0], float(rewards[0]), bool(ended[0]), bool(cut[0]), {}

    def render(self) -> np.ndarray | None:
        """Return the decoded frame, or None without `render_mode`."""
        _check_open(self, self._vector.closed)
        frames = self._vector.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Close the dream: from now on only `close` and `reset` are allowed."""
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

    A step is an agent step. Its reward is the expected sum over the env steps of that agent step.
    An observation is [z, h], float32 (F,), which is what C receives. Actions are those of the real
    env; those of a Box are clipped to its bounds. An episode terminates with the probability that M
    predicts, and if it leaves the `Support`. Otherwise it is truncated at the horizon.

    `reset(seed=int)` seeds one generator for all dreams. `reset(seed=[...])` seeds a separate
    generator for each dream.

    Args:
        run: the folder of a run with V and M.
        temperature, device, settings: see `DreamSettings`.
        render_mode: "rgb_array" makes `render` return decoded frames.

    Raises: UserError for a run without V, M or episodes, and for invalid settings. `step` raises
        UserError for actions of the wrong shape or type.
    """
    chosen = DreamSettings(temperature=temperature, device=device, **settings)
    return DreamVectorEnv(run, num_envs, chosen, render_mode)


def _check_open(env: object, closed: bool) -> None:
    if closed:
        raise ClosedEnvironmentError(
            f"expected an open environment, got a {type(env).__name__} after close()"
        )


def _checked_actions(space: spaces.Space[Any], actions: Any) -> np.ndarray:
    native = np.asarray(actions)
    if native.shape != space.shape or native.dtype.kind not in "biuf":
        raise UserError(
            f"expected numbers of shape {space.shape} as actions, got {native.dtype} of shape "
            f"{native.shape}"
        )
    return native
