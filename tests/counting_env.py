"""An environment whose frames, rewards and end say exactly which step of which seed they are.

Frame t shows t and the seed; reward t is `1000 * t` plus the action's sum (Box) or number
(Discrete); an episode has `episode_length(seed)` steps. Off by one anywhere, and a test sees it.
Ids: `tests.counting_env:CountingBox-v0` and `tests.counting_env:CountingDiscrete-v0`; the
module in the id registers them in worker processes too.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

BOX_ID = "tests.counting_env:CountingBox-v0"
DISCRETE_ID = "tests.counting_env:CountingDiscrete-v0"
FRAME_SHAPE = (64, 64, 3)


def episode_length(seed: int) -> int:
    return 5 + seed % 7


def read_frame(frame: np.ndarray) -> tuple[int, int]:
    """(step, seed) that a frame shows."""
    numbers = frame[0, :2].astype(np.int64) @ np.array([1, 256, 65536])
    return int(numbers[0]), int(numbers[1])


class CountingEnv(gym.Env[np.ndarray, Any]):
    """Box actions (2,) within [-1, 1] x [0, 1], or Discrete(3, start=1)."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    num_open = 0
    num_steps = 0  # of all environments in this process

    def __init__(self, discrete: bool = False, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, FRAME_SHAPE, np.uint8)
        self.action_space: spaces.Space[Any] = (
            spaces.Discrete(3, start=1)
            if discrete
            else spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32))
        )
        # One buffer for all frames: whoever keeps a frame without copying it finds out.
        self._frame = np.zeros(FRAME_SHAPE, dtype=np.uint8)
        self._ended = True
        self._open = True
        CountingEnv.num_open += 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._seed = 0 if seed is None else seed
        self._step, self._ended = 0, False
        return self._draw(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert not self._ended, "stepped after its episode ended"
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        CountingEnv.num_steps += 1
        reward = 1000.0 * self._step + float(np.sum(action))
        self._step += 1
        self._ended = self._step >= episode_length(self._seed)
        return self._draw(), reward, self._ended, False, {}

    def render(self) -> np.ndarray:
        return self._frame.copy()

    def close(self) -> None:
        CountingEnv.num_open -= self._open
        self._open = False

    def _draw(self) -> np.ndarray:
        self._frame[:] = self._step % 256
        for column, number in enumerate((self._step, self._seed)):
            self._frame[0, column] = (number & 255, number >> 8 & 255, number >> 16 & 255)
        return self._frame


for name, discrete in (("CountingBox-v0", False), ("CountingDiscrete-v0", True)):
    gym.register(
        id=name,
        entry_point=CountingEnv,
        kwargs={"discrete": discrete},
        disable_env_checker=True,  # it warns of the one buffer, at every step
    )
