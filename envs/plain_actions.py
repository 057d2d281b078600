"""Convert action spaces, for policies, to a Discrete space or to a Box with one axis."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.actions import UnsupportedActionSpace, is_integer

MAX_COMBINATIONS = 64  # each is one controller output


def plain_action_space(space: spaces.Space[Any]) -> spaces.Box | spaces.Discrete:
    """Return the plain action space, which policies use in place of the environment's own space.

    A Discrete space stays as it is. A Box is flattened to one axis, and a float type other than
    float32 becomes float32. A MultiBinary or MultiDiscrete space becomes a Discrete space with one
    action per combination of its numbers. In the order of these actions, the last number varies
    fastest.

    Raises:
        UnsupportedActionSpace: the space is not Discrete, Box, MultiBinary or MultiDiscrete, is an
            empty Box, or has more than `MAX_COMBINATIONS` combinations of numbers.
    """
    if isinstance(space, spaces.Discrete):
        return space
    if isinstance(space, spaces.Box):
        if np.prod(space.shape) == 0:
            raise UnsupportedActionSpace(
                f"expected a Box of at least 1 number as action space, got {space}: "
                "declare a larger Box"
            )
        dtype = np.dtype(space.dtype if is_integer(space) else np.float32)
        if len(space.shape) == 1 and space.dtype == dtype:
            return space
        low, high = (bound.reshape(-1).astype(dtype) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=dtype.type)
    if isinstance(space, spaces.MultiBinary | spaces.MultiDiscrete):
        count = int(np.prod(_choices(space), dtype=np.float64))
        if count <= MAX_COMBINATIONS:
            return spaces.Discrete(count)
        raise UnsupportedActionSpace(
            f"expected at most {MAX_COMBINATIONS} combinations of actions, got {count:,} in "
            f"{space}: wrap the environment so that it has a Discrete space of useful combinations"
        )
    raise UnsupportedActionSpace(
        f"expected a Box, Discrete, MultiBinary or MultiDiscrete action space, got {space}: "
        "wrap the environment so that its action space is one of these"
    )


def native_action_space(env: gym.Env[Any, Any]) -> spaces.Space[Any]:
    """Return the environment's action space; raise UnsupportedActionSpace if there is none."""
    try:
        return env.action_space
    except AttributeError as error:
        raise UnsupportedActionSpace(
            f"expected {env} to have an action_space, got none: set action_space in the constructor"
        ) from error


class PlainActions(gym.ActionWrapper[Any, Any, Any]):
    """A wrapper that takes actions of the plain space and converts them for the environment.

    A Box action is rounded if the Box holds integers, clipped to the bounds, and converted to
    the Box's shape and type.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap `env`; raise UnsupportedActionSpace if `plain_action_space` raises this error."""
        super().__init__(env)
        self._native = native_action_space(env)
        self.action_space = plain_action_space(self._native)

    def action(self, action: Any) -> Any:
        """Convert an action of the plain space to an action of the environment."""
        native = self._native
        if isinstance(native, spaces.Box):
            numbers = np.asarray(action).reshape(native.shape)
            if is_integer(native):
                numbers = np.rint(numbers)
            return np.asarray(np.clip(numbers, native.low, native.high), native.dtype)
        if isinstance(native, spaces.Discrete):
            return action
        assert isinstance(native, spaces.MultiBinary | spaces.MultiDiscrete)  # no others are plain
        numbers = np.array(np.unravel_index(int(action), _choices(native))).reshape(native.shape)
        return (numbers + getattr(native, "start", 0)).astype(native.dtype)


def _choices(space: spaces.MultiBinary | spaces.MultiDiscrete) -> tuple[int, ...]:
    """Return the number of values that each element of the flattened action can have."""
    choices = space.nvec if isinstance(space, spaces.MultiDiscrete) else np.full(space.shape, 2)
    return tuple(choices.reshape(-1).tolist())
