"""Environments that differ from the usual in one way each, chosen by arguments.

`tests.odd_envs:Odd-v0` observes a picture whose levels are the step's number, and an episode has
20 steps. What its actions were is in `OddEnv.received`, of all environments in this process.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ODD_ID = "tests.odd_envs:Odd-v0"
BLIND_ID = "tests.odd_envs:OddBlind-v0"  # takes no render_mode, and draws nothing
STUBBORN_ID = "tests.odd_envs:OddStubborn-v0"  # the same, but it says that it draws
STEPS = 20
DRAWN = 100  # levels by which what is drawn is lighter than what is observed
HIGH, WIDE = 20, 24

SPACES: dict[str, spaces.Space[Any]] = {
    "rgb": spaces.Box(0, 255, (HIGH, WIDE, 3), np.uint8),
    "rgba": spaces.Box(0, 255, (HIGH, WIDE, 4), np.uint8),
    "gray": spaces.Box(0, 255, (HIGH, WIDE), np.uint8),
    "gray channel": spaces.Box(0, 255, (HIGH, WIDE, 1), np.uint8),
    "first": spaces.Box(0, 255, (3, HIGH, WIDE), np.uint8),
    "first alpha": spaces.Box(0, 255, (4, HIGH, WIDE), np.uint8),
    "floats": spaces.Box(0, 1, (HIGH, WIDE, 3), np.float32),
    "doubles first": spaces.Box(0, 1, (1, HIGH, WIDE), np.float64),
    "unbounded": spaces.Box(-np.inf, np.inf, (HIGH, WIDE, 3), np.float32),
    "small": spaces.Box(0, 255, (7, 7, 3), np.uint8),
    "vector": spaces.Box(-1, 1, (4,), np.float32),
    "number": spaces.Discrete(30),
}
SPACES["dict"] = spaces.Dict(picture=SPACES["rgb"], speed=SPACES["vector"])
SPACES["dicts"] = spaces.Dict(left=SPACES["rgb"], right=SPACES["gray"], map=SPACES["small"])
SPACES["no picture"] = spaces.Dict(map=SPACES["small"], speed=SPACES["vector"])
SPACES["text"] = spaces.Dict(words=spaces.Text(5), picture=SPACES["first"])

ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "integers": spaces.Box(0, 10, (2,), np.int64),
    "bytes": spaces.Box(0, 255, (1,), np.uint8),
    "doubles": spaces.Box(-0.1, 0.1, (2,), np.float64),
    "constant": spaces.Box(np.float32([0, 0.5, 0]), np.float32([0, 0.5, 1])),
    "axes": spaces.Box(-1, 1, (2, 2), np.float32),
    "scalar": spaces.Box(-1, 1, (), np.float32),
    "discrete": spaces.Discrete(3, start=-1),
    "one": spaces.Discrete(1),
    "switches": spaces.MultiBinary(3),
    "choices": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "many": spaces.MultiBinary(7),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "huge": spaces.Box(np.float32(-3e38), np.float32(3e38), (1,)),
    "words": spaces.Text(3),
}


class OddEnv(gym.Env[Any, Any]):
    """Observes, acts, pays, ends and draws as it was asked to."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    received: ClassVar[list[Any]] = []

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        observation: str = "rgb",
        declares: str | None = None,
        action: str = "discrete",
        reward: str = "float",
        bad_step: int = -1,
        change: str | None = None,
        drawing: str | None = "rgb",
        fails: str | None = None,
    ) -> None:
        if fails == "constructor":
            raise RuntimeError("no license")
        if fails == "dependency":
            raise gym.error.DependencyNotInstalled("pip install gamelib")
        self.render_mode = render_mode
        self.observation_space = SPACES[declares or observation]
        self.action_space = ACTIONS[action]
        self._kind, self._reward, self._drawing = observation, reward, drawing
        self._bad_step, self._change, self._fails = bad_step, change, fails

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        if self._fails == "exit at reset":
            raise SystemExit(0)
        if self._fails == "reset":
            raise KeyError("level")
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        OddEnv.received.append(action)
        self._step += 1
        is_bad = self._step == self._bad_step
        if is_bad and self._fails == "exit":
            raise SystemExit(0)
        if is_bad and self._fails == "step":
            raise ZeroDivisionError("division by zero")
        if is_bad and self._fails == "results":
            return self._observe(), 0.0, False, {}
        reward: Any = float(self._step)
        if self._reward == "array":
            reward = np.full((1, 1), reward)
        elif is_bad:
            reward = {
                "nan": np.nan,
                "inf": -np.inf,
                "complex": 1j,
                "pair": np.zeros(2),
                "none": None,
                "large": 1e300,
            }.get(self._reward, reward)
        ended = self._step >= STEPS
        over = np.array([ended]) if self._reward == "array" else np.bool_(ended)
        return self._observe(), reward, over, np.bool_(False), {}

    def render(self) -> Any:
        kind = "small" if self._changed("drawing") else self._drawing
        if kind is None or self.render_mode != "rgb_array":
            return None
        if kind == "list":
            return [self._shown("rgb", DRAWN)]
        return self._shown(kind, DRAWN)

    def _changed(self, what: str) -> bool:
        return self._change == what and self._step == self._bad_step

    def _observe(self) -> Any:
        if self._changed("size"):
            return np.zeros((HIGH + 1, WIDE, 3), np.uint8)
        if self._changed("channels"):
            return np.zeros((HIGH, WIDE, 4), np.uint8)
        if self._changed("type"):
            return np.zeros((HIGH, WIDE, 3), np.float32)
        if self._changed("range"):
            return self._shown(self._kind) + 1
        if self._changed("nan"):
            return self._shown(self._kind) * np.nan
        space = SPACES[self._kind]
        if not isinstance(space, spaces.Dict):
            return self._shown(self._kind)
        names = {id(space): name for name, space in SPACES.items()}
        return {
            name: "words" if name == "words" else self._shown(names[id(entry)])
            for name, entry in space.items()
        }

    def _shown(self, kind: str, more: int = 0) -> Any:
        space, level = SPACES[kind], self._step + more
        if isinstance(space, spaces.Discrete):
            return level
        assert isinstance(space, spaces.Box)
        level = level / 255 if space.dtype.kind == "f" else level
        return np.full(space.shape, level, space.dtype)


class OddBlindEnv(OddEnv):
    metadata: ClassVar = {"render_modes": []}

    def __init__(self, observation: str = "rgb", action: str = "discrete") -> None:
        super().__init__(observation=observation, action=action)


gym.register("Odd-v0", OddEnv)
gym.register("OddBlind-v0", OddBlindEnv)


class OddStubbornEnv(OddBlindEnv):
    metadata: ClassVar = {"render_modes": ["rgb_array"]}


class OddBareEnv(OddBlindEnv):
    """Declares no spaces."""

    def __init__(self, has_actions: bool = True) -> None:
        super().__init__()
        del self.observation_space
        if not has_actions:
            del self.action_space

    def step(self, action: Any) -> Any:
        self._step += 1
        return self._observe(), 0.0, False, False, {}

    def close(self) -> None:
        raise OSError("the license server is gone")


gym.register("OddStubborn-v0", OddStubbornEnv)
gym.register("OddBare-v0", OddBareEnv)
