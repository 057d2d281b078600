"""An environment that says much, each time something else, and misbehaves on demand."""

import enum
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

NUM_ENVS = 5


class Do(enum.IntEnum):
    """First numbers of an action that make an environment misbehave."""

    RAISE = 2
    RAISE_PICKY = 3
    DIE = 4
    HANG = 5


class TalkingEnv(gym.Env[Any, Any]):
    """Random episodes of 1 to 6 steps with infos of all kinds, which differ between envs.

    "mixed" is an int in even environments and else a float, so that whoever merges infos in
    another order than the environments' gets another dtype.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 7}
    render_mode = "rgb_array"
    observation_space = spaces.Box(-10, 10, (2, 3), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, index: int) -> None:
        self.index = index
        self.process_id = os.getpid()
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 7))
        return self._observe(), {"options": options, "left": self.left}

    def step(self, action: Any) -> Any:
        if action[0] == Do.RAISE:
            raise LookupError("not that")
        if action[0] == Do.RAISE_PICKY:
            raise PickyError("not", "that")
        if action[0] == Do.DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if action[0] == Do.HANG:
            time.sleep(60)
        self.actions.append(action)
        self.left -= 1
        observation = self._observe()
        reward = float(action.sum(dtype=np.float64) + observation[0, 0])
        infos = {
            "mixed": self.index if self.index % 2 == 0 else self.index + 0.5,
            "nested": {"left": self.left, "array": observation[0]},
            f"only {self.index % 3}": "text",
        }
        terminated = self.left <= 0 and self.index % 2 == 0
        return observation, reward, terminated, self.left <= 0 and not terminated, infos

    def render(self) -> Any:
        return np.full((4, 6, 3), self.left, np.uint8)

    def surroundings(self) -> dict[str, Any]:
        import cv2

        tasks = Path("/proc/self/task")  # Linux alone tells
        return {
            "has torch": "torch" in sys.modules,
            "threads of cv2": cv2.getNumThreads(),
            # Of the process: this one, and the one that waits for the parent's end.
            "threads": len(list(tasks.iterdir())) if tasks.exists() else 2,
            "driver": os.environ["SDL_VIDEODRIVER"],
            "ignores ctrl-c": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        }

    def _observe(self) -> Any:
        return self.np_random.uniform(-1, 1, (2, 3)).astype(np.float32)


class PickyError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def factories(num_envs: int = NUM_ENVS) -> list[Any]:
    return [partial(TalkingEnv, index) for index in range(num_envs)]


def random_actions(num_steps: int, num_envs: int = NUM_ENVS) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (num_steps, num_envs, 2)).astype(np.float32)
