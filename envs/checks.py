"""Checks of the values that an environment returns; for example, rewards must be finite.

An invalid value or an exception of an environment becomes an EnvError, whose message of one line
names the environment, the episode and the step. If the environment raised an exception, this
exception becomes the cause of the EnvError. With the environment variable `WM_TRACEBACK=1`, the
traceback of the exception is printed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from envs.errors import EnvError, describe_error
from envs.pictures import as_array

MAX_REWARD = 1e18  # models square rewards in float32, which holds 3e38


# SystemExit is included, as an environment that ends the process would look like success.
FAILURES = (Exception, SystemExit, GeneratorExit)


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper that raises an EnvError for an invalid result or for an exception.

    A reward must be a finite number, and `terminated` and `truncated` must be bools. The
    environment may return each of these values as an array of one element.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str) -> None:
        """`name` is the environment's name in error messages."""
        super().__init__(env)
        self.name = name
        self._seed: int | None = None
        self._step = 0

    @property
    def location(self) -> str:
        """The part of an error message that names the environment, the episode and the step."""
        episode = "" if self._seed is None else f", episode of seed {self._seed}"
        return f"{self.name}{episode}, step {self._step}"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; if `seed` is given, error messages contain the seed."""
        self._seed, self._step = seed, 0
        with self._raises_env_errors("reset()"):
            result = self.env.reset(seed=seed, options=options)
        return self._items(result, 2, "reset() to return an observation and infos")

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, and check the results."""
        self._step += 1
        with self._raises_env_errors("step()"):
            result = self.env.step(action)
        expected = "step() to return observation, reward, terminated, truncated and infos"
        observation, reward, terminated, truncated, info = self._items(result, 5, expected)
        reward = self._finite(reward)
        terminated = self._flag("terminated", terminated)
        return observation, reward, terminated, self._flag("truncated", truncated), info

    def render(self) -> Any:
        """Render the environment."""
        with self._raises_env_errors("render()"):
            return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        with self._raises_env_errors("close()"):
            super().close()

    @contextlib.contextmanager
    def _raises_env_errors(self, call: str) -> Iterator[None]:
        try:
            yield
        except (gym.error.ResetNeeded, gym.error.InvalidAction):
            raise  # a mistake of the caller
        except FAILURES as error:
            raise EnvError(f"{self.location}: {call} raised {describe_error(error)}") from error

    def _items(self, result: Any, count: int, expected: str) -> tuple[Any, ...]:
        """Return `result`, or raise an EnvError if `result` is not a tuple of `count` items."""
        if not isinstance(result, tuple) or len(result) != count:
            raise EnvError(f"{self.location}: expected {expected}, got {_describe(result)}")
        return result

    def _finite(self, reward: Any) -> float:
        number = reward if type(reward) is float else _one_number(reward, "biuf")
        if number is None or not abs(number) <= MAX_REWARD:  # true for NaN
            raise EnvError(
                f"{self.location}: expected a reward that is one finite number of magnitude at "
                f"most {MAX_REWARD:g}, got {_describe(reward)}"
            )
        return number

    def _flag(self, what: str, value: Any) -> bool:
        number = value if type(value) is bool else _one_number(value, "biu")
        if number is None:
            raise EnvError(f"{self.location}: expected {what} to be a bool, got {_describe(value)}")
        return bool(number)


def _one_number(value: Any, kinds: str) -> float | None:
    """Return the value of a scalar or of an array of one element; return None for other values."""
    array = as_array(value)
    return float(array.item()) if array.size == 1 and array.dtype.kind in kinds else None


def _describe(value: Any) -> str:
    """Describe a value in at most 60 characters."""
    if isinstance(value, tuple):
        return f"{len(value)} items"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
