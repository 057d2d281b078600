"""Encode actions as float vectors, and map a controller's outputs to encoded actions.

A *native* action is an element of the environment's action space. An *encoded* action is a float32
vector of length A. The encoding of a Box action is the action itself, rounded if the Box holds
integers. The encoding of a Discrete action is one-hot. The module `plain_actions` converts other
action spaces to a Box or a Discrete space. Episodes contain only encoded actions, and the memory
model M receives only encoded actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32
from numpy.typing import NDArray

MAX_RANGE = 2**24  # between bounds; float32 does not represent every larger integer


class UnsupportedActionSpace(gym.error.Error, ValueError):
    """An action space that the package does not support."""


def action_size(space: spaces.Space[Any]) -> int:
    """Return the length A of an encoded action.

    Raises:
        UnsupportedActionSpace: `space` is neither a 1-D Box nor Discrete.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return int(space.shape[0])
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    raise UnsupportedActionSpace(
        f"expected a 1-D Box or a Discrete action space, got {space}: "
        "wrap the environment so that its action space is one of these"
    )


def encode_actions(
    space: spaces.Space[Any], actions: NDArray[Any]
) -> Float32[np.ndarray, "batch action"]:
    """Encode native actions as float32 vectors, (B, A).

    The shape of native actions is (B, A) for a Box and (B,) for a Discrete space.

    Raises:
        UnsupportedActionSpace: `space` is neither a 1-D Box nor Discrete.
        ValueError: the shape of `actions`, or the value of a discrete action, does not fit `space`.
    """
    size = action_size(space)
    native = np.asarray(actions)
    if isinstance(space, spaces.Discrete):
        index = native - space.start
        if index.ndim != 1 or not np.isin(index, np.arange(size)).all():
            raise ValueError(
                "expected actions of shape (B,) with values in "
                f"{space.start}..{space.start + size - 1}, "
                f"got shape {native.shape} with values {np.unique(native)[:8]}"
            )
        return one_hot(index.astype(np.int64), size)
    _check_encoded(native, size)
    assert isinstance(space, spaces.Box)  # action_size raises for other spaces
    if is_integer(space):  # as `PlainActions` executes it
        native = np.clip(np.rint(native), space.low, space.high)
    return native.astype(np.float32)


def decode_actions(space: spaces.Space[Any], encoded: NDArray[Any]) -> NDArray[Any]:
    """Decode encoded actions (B, A) to native actions.

    Native actions of a Box have the shape (B, A) and the type of the Box, and are clipped to the
    bounds of the Box. Native actions of a Discrete space are int64 (B,).

    Raises:
        UnsupportedActionSpace: `space` is neither a 1-D Box nor Discrete.
        ValueError: the shape of `encoded` is not (B, A).
    """
    size = action_size(space)
    vectors = np.asarray(encoded, dtype=np.float32)
    _check_encoded(vectors, size)
    if isinstance(space, spaces.Discrete):
        return np.asarray(vectors.argmax(axis=1), np.int64) + int(space.start)
    assert isinstance(space, spaces.Box)  # action_size raises for other spaces
    if is_integer(space):
        vectors = np.rint(vectors)
    return np.clip(vectors, space.low, space.high).astype(space.dtype)


def one_hot(index: Any, size: int) -> Float32[np.ndarray, "*batch {size}"]:
    """Return one float32 one-hot vector per index; unlike np.eye, this makes no square matrix."""
    index = np.asarray(index)
    vectors = np.zeros((*index.shape, size), np.float32)
    np.put_along_axis(vectors, index[..., None], 1.0, axis=-1)
    return vectors


def is_integer(space: spaces.Box) -> bool:
    """Whether a Box holds integers."""
    return space.dtype is not None and space.dtype.kind in "biu"


def _check_encoded(vectors: NDArray[Any], size: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != size:
        raise ValueError(f"expected actions of shape (B, {size}), got {vectors.shape}")


@dataclass(frozen=True)
class ActionMap:
    """Map from a controller's raw outputs to an encoded action.

    For a Box, element j of the encoded action is
    `clip(scale[j] * tanh(output[source[j]]) + offset[j], low[j], high[j])`. For a Discrete space,
    the encoded action is one-hot at the index of the largest output, and `start` is the first
    native action. `dataclasses.asdict` converts a map to values that JSON can store, and
    `from_dict` restores the map. All fields are plain values, so that any array library can compute
    the map.
    """

    num_outputs: int
    discrete: bool
    source: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    start: int = 0
    integer: bool = False

    def __post_init__(self) -> None:
        lengths = list(map(len, (self.source, self.scale, self.offset, self.low, self.high)))
        if len(set(lengths)) != 1:
            raise ValueError(
                "expected source, scale, offset, low and high of the same length, "
                f"got the lengths {lengths}"
            )
        if any(not 0 <= index < self.num_outputs for index in self.source):
            raise ValueError(
                f"expected sources in 0..{self.num_outputs - 1} for {self.num_outputs} outputs, "
                f"got {self.source}"
            )

    @property
    def size(self) -> int:
        """Length A of the encoded action."""
        return len(self.source)

    @property
    def space(self) -> spaces.Box | spaces.Discrete:
        """The action space of the native actions."""
        if self.discrete:
            return spaces.Discrete(self.size, start=self.start)
        low, high = (np.array(bound, np.float32) for bound in (self.low, self.high))
        if self.integer:
            return spaces.Box(low.astype(np.int64), high.astype(np.int64), dtype=np.int64)
        return spaces.Box(low, high, dtype=np.float32)

    def __call__(self, outputs: NDArray[Any]) -> Float32[np.ndarray, "*batch {self.size}"]:
        """Map raw outputs (..., num_outputs) to encoded actions (..., A).

        Raises:
            ValueError: the last axis of `outputs` does not have the length `num_outputs`.
        """
        raw = np.asarray(outputs, dtype=np.float32)
        if raw.ndim == 0 or raw.shape[-1] != self.num_outputs:
            raise ValueError(
                f"expected outputs of shape (..., {self.num_outputs}), got {raw.shape}"
            )
        if self.discrete:
            return one_hot(raw.argmax(axis=-1), self.size)
        scale, offset = (np.asarray(n, dtype=np.float32) for n in (self.scale, self.offset))
        selected = np.tanh(raw[..., list(self.source)])
        return self.within(scale * selected + offset)

    def within(self, actions: NDArray[Any]) -> Float32[np.ndarray, "*batch {self.size}"]:
        """Round encoded actions if the Box holds integers, and clip the actions to the bounds."""
        actions = np.rint(actions) if self.integer else actions
        low, high = (np.asarray(bound, dtype=np.float32) for bound in (self.low, self.high))
        return np.asarray(np.clip(actions, low, high), np.float32)

    @classmethod
    def for_space(cls, space: spaces.Space[Any]) -> ActionMap:
        """Return a map for an action space.

        For a Box, the map scales the tanh of each output to the range between the bounds of the
        Box. For a Discrete space, the map selects the action with the largest output.

        Raises:
            UnsupportedActionSpace: `space` is neither a 1-D Box with finite bounds nor Discrete.
        """
        size = action_size(space)
        source = tuple(range(size))
        if isinstance(space, spaces.Discrete):
            zeros, ones = (0.0,) * size, (1.0,) * size
            return cls(size, True, source, ones, zeros, zeros, ones, int(space.start))
        assert isinstance(space, spaces.Box)  # action_size raises for other spaces
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        with np.errstate(invalid="ignore"):
            is_bounded = np.isfinite(low) & np.isfinite(high) & (high - low <= MAX_RANGE)
        if not is_bounded.all():
            raise UnsupportedActionSpace(
                "expected an action space with finite bounds that are at most "
                f"{MAX_RANGE:,} apart, got {space}: declare finite bounds, or wrap the environment "
                "with gymnasium.wrappers.RescaleAction or ClipAction"
            )
        arrays = ((high - low) / 2, (high + low) / 2, low, high)
        scale, offset, lowest, highest = (tuple(array.tolist()) for array in arrays)
        return cls(size, False, source, scale, offset, lowest, highest, integer=is_integer(space))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ActionMap:
        """Restore a map from a dict of its fields, in which lists may stand for tuples."""
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**fields)
