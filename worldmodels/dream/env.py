"""A run's dream as Gymnasium environments, so that any of its clients can train in one.

One step is one agent step. The reward is the one that M expects, an episode ends with the
probability that M predicts, and it is cut off at a horizon.
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

    Autoreset is Gymnasium's next-step mode: in the step after its end a dream starts anew, its
    action is ignored and its reward is 0.
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
        self._generators: list[np.random.Generator] | None = None  # one per dream, or one for all

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all dreams at new states; the same seed gives the same dreams.

        Args:
            seed: an integer seeds one generator for all dreams, which are then stepped together.
                A list holds one seed per dream, where None is any seed; each dream then equals
                that of a `DreamEnv` with its seed. Dreams with generators of their own are stepped
                one by one, which is slower. None keeps the present generators.

        Raises: UserError for a "reset_mask" among the options and for a list of another length;
            gymnasium.error.ClosedEnvironmentError after `close`.
        """
        _check_open(self, self.closed)
        if options and "reset_mask" in options:
            raise UserError("dreams start anew by themselves: expected a reset without reset_mask")
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
        """Take one agent step in every dream; those that were over start anew instead.

        Raises: gymnasium.error.ClosedEnvironmentError after `close`.
        """
        _check_open(self, self.closed)
        if self._over is None:
            raise ResetNeeded("expected a reset before the first step")
        going = np.flatnonzero(~self._over)
        # All at once, so that wrong actions are refused before any dream has moved.
        encoded = self.dreams.encode(going, _checked_actions(self.action_space, actions))
        rewards = np.zeros(self.num_envs)
        ended, cut = np.zeros((2, self.num_envs), dtype=bool)
        for rows, generator in self._by_generator(going):
            rewards[rows], ended[rows], cut[rows] = self.dreams.step(rows, encoded, generator)
        self._begin(np.flatnonzero(self._over))
        self._over = ended | cut
        return self.dreams.observe(), rewards, ended, cut, {}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Decoded frames of all dreams, with `render_mode="rgb_array"`."""
        _check_open(self, self.closed)
        return None if self.render_mode is None else tuple(self.dreams.frames())

    def _begin(self, chosen: np.ndarray) -> None:
        for rows, generator in self._by_generator(chosen):
            self.dreams.begin(rows, generator)

    def _by_generator(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.random.Generator]]:
        """The chosen dreams, those together that share a generator."""
        if self._generators is not None:
            return [(np.array([row]), self._generators[row]) for row in rows]
        return [(rows, self.np_random)] if len(rows) else []


class DreamEnv(gym.Env[np.ndarray, Any]):
    """One dream of a run: `gymnasium.make("worldmodels/Dream-v0", run="runs/demo")`.

    It is a `DreamVectorEnv` of one that does not start anew by itself.

    Args:
        settings: those of `DreamSettings`.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012  Gymnasium's own way

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

        This also opens a closed dream again, because the checks of Stable-Baselines3 rely on it.
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
        """The decoded frame, with `render_mode="rgb_array"`."""
        _check_open(self, self._vector.closed)
        frames = self._vector.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Allow nothing but a further `close`, or a `reset`, from now on."""
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
    """Dreams of a run, `num_envs` at once, as a Gymnasium vector environment.

    Example::

        dreams = worldmodels.make_dream("runs/demo", num_envs=64, temperature=1.15)
        observations, _ = dreams.reset(seed=0)
        actions = dreams.action_space.sample()
        observations, rewards, terminated, truncated, _ = dreams.step(actions)

    A step is an agent step. Its reward is the expected sum over the env steps of that agent step.
    An observation is [z, h], float32 (F,), which is what C receives. Actions are those of the real
    env; they are clipped to the bounds of a Box. An episode terminates with the probability that M
    predicts, and where it is out of `Support`. Otherwise it is truncated at the horizon.

    `reset(seed=int)` seeds one generator for all dreams. `reset(seed=[...])` gives each dream a
    generator of its own.

    Args:
        run: the folder of a run with V and M.
        temperature, device, settings: see `DreamSettings`.
        render_mode: "rgb_array" lets `render` give decoded frames.

    Raises: UserError for a run without V, M or episodes, and for impossible settings. `step`
        raises it for actions of another shape or type.
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
