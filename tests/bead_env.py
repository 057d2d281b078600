"""An environment that is quickly learned: a bead on a wire, to be moved to a mark and kept there.

Id: `tests.bead_env:Bead-v0`; the module in the id registers it in worker processes too.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ID = "tests.bead_env:Bead-v0"
MARK = 0.8
SPEED = 0.1


class BeadEnv(gym.Env[np.ndarray, Any]):
    """A step moves the bead by a tenth of the wire at most and pays 1 at the mark, 0 far off."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._place = self.np_random.random()
        return self.render(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._place = float(np.clip(self._place + SPEED * action[0], 0, 1))
        reward = max(0.0, 1 - 2 * abs(self._place - MARK))
        return self.render(), reward, False, False, {}

    def render(self) -> np.ndarray:
        frame = np.full((64, 64, 3), 60, dtype=np.uint8)
        frame[30:34] = 120  # the wire
        left = round(self._place * 48)
        frame[24:40, left : left + 16] = (240, 200, 40)
        return frame


gym.register(id="Bead-v0", entry_point=BeadEnv, max_episode_steps=60)
