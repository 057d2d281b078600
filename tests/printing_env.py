"""An environment that prints whenever it can: through Python, and as C code does."""

import atexit
import os
import sys
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

PRINTING_ID = "tests.printing_env:Printing-v0"


def print_twice(when: str) -> None:
    print(f"printed {when}")
    os.write(1, f"written {when}\n".encode())


print_twice("at import")
if "pytest" not in sys.modules:  # a test has no use for that
    atexit.register(print_twice, "at exit")


class PrintingEnv(gym.Env[Any, Any]):
    """Three steps of noise."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        print_twice("in __init__")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        print_twice("in reset")
        self.left = 3
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        print_twice("in step")
        self.left -= 1
        return self.observation_space.sample(), 1.0, self.left == 0, False, {}

    def render(self) -> Any:
        return self.observation_space.sample()


gym.register("Printing-v0", entry_point=PrintingEnv)
