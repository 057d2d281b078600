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

    The autoreset mode is Gymnasium's next-step mode: the step after the end of a dream resets it.
    That step ignores the dream's action, and its reward is 0.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  Gymnasium's own way
        "render_modes": RENDER_MODES,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        run: str | Path | Run,
        num_envs: int,
        settings: DreamSettings,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"expected 1 dream or more, got {num_envs}")
        self.num_envs = num_envs
        self.render_mode = _checked_mode(render_mode)
        self.dreams = Dreams(run, num_envs, settings)
        self.metadata = {**self.metadata, "render_fps": self.dreams.frames_per_second}
        self.single_observation_space = self.dreams.observation_space
        self.single_action_space = self.dreams.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._over: np.ndarray | None = None
        self._generators: list[np.random.Generator] | None = None  # one per dream, or one for all

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all dreams at new start states; the same seed gives the same dreams.

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
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            self._generators = self._generators if seed is None else None
        else:
            self._generators = self._generators_of(seed)
        self._begin(np.arange(self.num_envs))
        self._over = np.zeros(self.num_envs, dtype=bool)
        return self.dreams.observe(), {}

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One agent step in every dream; a dream that has ended is reset instead.

        Raises: gymnasium.error.ClosedEnvironmentError after `close`.
        """
        _check_open(self, self.closed)
        if self._over is None:
            raise ResetNeeded("expected a reset before the first step")
        native = _checked_actions(self.action_space, actions)
        rewards = np.zeros(self.num_envs)
        ended, cut = np.zeros((2, self.num_envs), dtype=bool)
        going, over = np.flatnonzero(~self._over), np.flatnonzero(self._over)
        if len(going):
            rewards[going], ended[going], cut[going] = self._step(going, native[going])
        if len(over):
            self._begin(over)
        self._over = ended | cut
        return self.dreams.observe(), rewards, ended, cut, {}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Decoded frames of all dreams, with `render_mode="rgb_array"`."""
        _check_open(self, self.closed)
        return None if self.render_mode is None else tuple(self.dreams.frames())

    def _generators_of(self, seeds: list[int | None]) -> list[np.random.Generator]:
        if len(seeds) != self.num_envs:
            raise UserError(f"expected {self.num_envs} seeds, one per dream, got {len(seeds)}")
        return [seeding.np_random(seed)[0] for seed in seeds]

    def _begin(self, rows: np.ndarray) -> None:
        if self._generators is None:
            self.dreams.begin(rows, self.np_random)
            return
        for row in rows:
            self.dreams.begin(np.array([row]), self._generators[row])

    def _step(self, rows: np.ndarray, native: np.ndarray) -> tuple[np.ndarray, ...]:
        if self._generators is None:
            return self.dreams.step(rows, native, self.np_random)
        self.dreams.encode(rows, native)  # refuse wrong actions before any dream has moved
        each = [
            self.dreams.step(np.array([row]), native[[index]], self._generators[row])
            for index, row in enumerate(rows)
        ]
        return tuple(np.concatenate(parts) for parts in zip(*each, strict=True))


class DreamEnv(gym.Env[np.ndarray, Any]):
    """One dream of a run: `gymnasium.make("worldmodels/Dream-v0", run="runs/demo")`.

    Args:
        settings: temperature, start, horizon, render_frames and device, as of `make_dream`.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012  Gymnasium's own way

    def __init__(
        self, run: str | Path | Run, render_mode: str | None = None, **settings: Any
    ) -> None:
        self.render_mode = _checked_mode(render_mode)
        self.dreams = Dreams(run, 1, DreamSettings(**settings))
        self.metadata = {**self.metadata, "render_fps": self.dreams.frames_per_second}
        self.observation_space = self.dreams.observation_space
        self.action_space = self.dreams.action_space
        self._row = np.zeros(1, dtype=np.int64)
        self._over = True
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the dream at a new start state; the same seed gives the same dream.

        This also opens a closed dream again, because the checks of Stable-Baselines3 rely on it.
        """
        self._closed = False
        super().reset(seed=seed)
        self.dreams.begin(self._row, self.np_random)
        self._over = False
        return self.dreams.observe()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One agent step."""
        _check_open(self, self._closed)
        if self._over:
            raise ResetNeeded("expected a reset before the first step and after a dream's end")
        native = _checked_actions(self.action_space, action)[None]
        rewards, ended, cut = self.dreams.step(self._row, native, self.np_random)
        self._over = bool(ended[0] or cut[0])
        return self.dreams.observe()[0], float(rewards[0]), bool(ended[0]), bool(cut[0]), {}

    def render(self) -> np.ndarray | None:
        """The decoded frame, with `render_mode="rgb_array"`."""
        _check_open(self, self._closed)
        return None if self.render_mode is None else self.dreams.frames()[0]

    def close(self) -> None:
        """Close the dream; after that, only `reset` and another `close` are allowed."""
        self._closed = True


# Long list of parameters: public; each is an option of the environment, given by name.
def make_dream(
    run: str | Path | Run,
    num_envs: int = 64,
    temperature: float = 1.0,
    start: str = "real",
    horizon: int = 250,
    render_frames: bool = False,
    render_mode: str | None = None,
    device: str = "cpu",
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
        num_envs: number of dreams.
        temperature: scales the uncertainty of the dream; 1 is the distribution that M learned.
        start: where dreams begin. "real" is any agent step of the newest training episodes, with
            M's state at that step. "reset" is the first frame of one of these episodes.
        horizon: agent steps after which a dream is truncated.
        render_frames: observe decoded frames, uint8 (64, 64, 3), in place of [z, h].
        render_mode: with "rgb_array", `render` returns decoded frames.
        device: of V and M: cpu, cuda, mps or auto.

    Raises: UserError for a run without V, M or episodes, and for impossible settings. `step`
        raises it for actions of another shape or type.
    """
    settings = DreamSettings(
        temperature=temperature,
        start=start,
        horizon=horizon,
        render_frames=render_frames,
        device=device,
    )
    return DreamVectorEnv(run, num_envs, settings, render_mode)


def _check_open(env: object, closed: bool) -> None:
    if closed:
        raise ClosedEnvironmentError(
            f"expected an open environment, got a {type(env).__name__} after close()"
        )


def _checked_mode(mode: str | None) -> str | None:
    if mode is not None and mode not in RENDER_MODES:
        raise UserError(f'expected render_mode None or "rgb_array", got "{mode}"')
    return mode


def _checked_actions(space: spaces.Space[Any], actions: Any) -> np.ndarray:
    native = np.asarray(actions)
    if native.shape != space.shape or native.dtype.kind not in "biuf":
        raise UserError(
            f"expected numbers of shape {space.shape} as actions, got {native.dtype} of shape "
            f"{native.shape}"
        )
    return native
