"""Any action space as one that policies know: a Discrete, or a Box with one axis."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.actions import UnsupportedActionSpace

MAX_COMBINATIONS = 64  # one controller output each


def plain_action_space(space: spaces.Space[Any]) -> spaces.Box | spaces.Discrete:
    """The space that policies act in, in place of an environment's own.

    Discrete stays as it is. Box gets one axis, and float32 in place of another float type.
    MultiBinary and MultiDiscrete become the Discrete of their combinations, the last number
    running fastest.

    Raises:
        UnsupportedActionSpace: another kind of space, or too many combinations.
    """
    if isinstance(space, spaces.Discrete):
        return space
    if isinstance(space, spaces.Box) and np.prod(space.shape) == 0:
        raise UnsupportedActionSpace(
            f"expected a Box of one number or more as action space, got {space}: give it one"
        )
    if isinstance(space, spaces.Box):
        is_float = space.dtype is None or space.dtype.kind == "f"
        dtype = np.dtype(np.float32) if is_float else space.dtype
        if len(space.shape) == 1 and space.dtype == dtype:
            return space
        low, high = (np.asarray(bound).reshape(-1).astype(dtype) for bound in _bounds(space))
        return spaces.Box(low, high, dtype=dtype.type)
    if isinstance(space, spaces.MultiBinary | spaces.MultiDiscrete):
        choices = _choices(space)
        count = int(np.prod(choices, dtype=np.float64))
        if count <= MAX_COMBINATIONS:
            return spaces.Discrete(count)
        raise UnsupportedActionSpace(
            f"expected at most {MAX_COMBINATIONS} combinations of actions, got {count:,} in "
            f"{space}: wrap the environment so that it offers those that matter, as Discrete"
        )
    raise UnsupportedActionSpace(
        f"expected a Box, Discrete, MultiBinary or MultiDiscrete action space, got {space}: "
        "wrap the environment so that it takes one of these"
    )


def native_action_space(env: gym.Env[Any, Any]) -> spaces.Space[Any]:
    """The environment's own action space; raises UnsupportedActionSpace where it has none."""
    try:
        return env.action_space
    except AttributeError as error:
        raise UnsupportedActionSpace(
            f"expected {env} to have an action_space, got none: set it in the constructor"
        ) from error


class PlainActions(gym.ActionWrapper[Any, Any, Any]):
    """Takes actions of the plain space, and hands the environment its own kind of action.

    A Box action is rounded where the Box holds integers, clipped to its bounds, and has its shape
    and type.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Raises UnsupportedActionSpace, see `plain_action_space`."""
        super().__init__(env)
        self._native = native_action_space(env)
        self.action_space = plain_action_space(self._native)

    def action(self, action: Any) -> Any:
        """The environment's own action for a plain one."""
        native = self._native
        if isinstance(native, spaces.Box):
            numbers = np.asarray(action).reshape(native.shape)
            if native.dtype is not None and native.dtype.kind != "f":
                numbers = np.rint(numbers)
            return np.asarray(np.clip(numbers, *_bounds(native)), native.dtype)
        if isinstance(native, spaces.Discrete):
            return action
        assert isinstance(native, spaces.MultiBinary | spaces.MultiDiscrete)  # no other is plain
        numbers = np.array(np.unravel_index(int(action), _choices(native))).reshape(native.shape)
        if isinstance(native, spaces.MultiDiscrete):
            numbers = numbers + native.start
        return numbers.astype(native.dtype)


def _bounds(space: spaces.Box) -> tuple[Any, Any]:
    """Lowest and highest, as numbers where the Box is of booleans."""
    if space.dtype == np.bool_:
        return space.low.astype(np.int64), space.high.astype(np.int64)
    return space.low, space.high


def _choices(space: spaces.MultiBinary | spaces.MultiDiscrete) -> tuple[int, ...]:
    """How many choices each number of the action has, flattened."""
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(count) for count in np.asarray(space.nvec).reshape(-1))
    return (2,) * int(np.prod(space.shape))
