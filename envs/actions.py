"""Encoding of actions as float vectors, and maps from a controller's outputs to such vectors.

An *encoded* action is a float32 vector of length A. A Box action is encoded as it is, rounded where
the Box holds integers; a Discrete action is one-hot. `plain_actions` converts other spaces to these
two. Memories and stores use only encoded actions; environments use only native ones.
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
    """The action space is neither a 1-D Box nor Discrete."""


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
        "wrap the environment so that it takes one of these"
    )


def encode_actions(
    space: spaces.Space[Any], actions: NDArray[Any]
) -> Float32[np.ndarray, "batch action"]:
    """Encode native actions, (B, A) for a Box or (B,) for a Discrete space, as float32 (B, A).

    Raises:
        UnsupportedActionSpace: `space` is neither a 1-D Box nor Discrete.
        ValueError: the actions' shape, or a discrete action's value, does not fit the space.
    """
    size = action_size(space)
    native = np.asarray(actions)
    if isinstance(space, spaces.Discrete):
        index = native - space.start
        if index.ndim != 1 or not np.isin(index, np.arange(size)).all():
            raise ValueError(
                f"expected actions of shape (B,) in {space.start}..{space.start + size - 1}, "
                f"got shape {native.shape}, values {np.unique(native)[:8]}"
            )
        return one_hot(index.astype(np.int64), size)
    _check_encoded(native, size)
    assert isinstance(space, spaces.Box)  # action_size raises for other spaces
    if is_integer(space):  # as `PlainActions` executes it
        native = np.clip(np.rint(native), space.low, space.high)
    return native.astype(np.float32)


def decode_actions(space: spaces.Space[Any], encoded: NDArray[Any]) -> NDArray[Any]:
    """Decode actions (B, A) to native ones: (B, A) within a Box and of its type, or int64 (B,).

    Raises:
        UnsupportedActionSpace: `space` is neither a 1-D Box nor Discrete.
        ValueError: `encoded` is not (B, A).
    """
    size = action_size(space)
    vectors = np.asarray(encoded, dtype=np.float32)
    _check_encoded(vectors, size)
    if isinstance(space, spaces.Discrete):
        result: NDArray[Any] = vectors.argmax(axis=1).astype(np.int64) + int(space.start)
        return result
    assert isinstance(space, spaces.Box)  # action_size raises for other spaces
    if is_integer(space):
        vectors = np.rint(vectors)
    return np.clip(vectors, space.low, space.high).astype(space.dtype)


def one_hot(index: Any, size: int) -> Float32[np.ndarray, "*batch {size}"]:
    """Return float32 vectors with a 1 at each index, without np.eye, whose size is quadratic."""
    index = np.asarray(index)
    vectors = np.zeros((*index.shape, size), np.float32)
    np.put_along_axis(vectors, index[..., None], 1.0, axis=-1)
    return vectors


def is_integer(space: spaces.Box) -> bool:
    """Whether a Box holds whole numbers."""
    return space.dtype is not None and space.dtype.kind in "biu"


def _check_encoded(vectors: NDArray[Any], size: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != size:
        raise ValueError(f"expected actions of shape (B, {size}), got {vectors.shape}")


@dataclass(frozen=True)
class ActionMap:
    """Map from a controller's raw outputs to an encoded action; all its fields are plain values.

    Continuous: `action[j] = clip(scale[j] * tanh(output[source[j]]) + offset[j], low[j],
    high[j])`. Discrete: one-hot of the largest output; `start` is the first native action.
    `dataclasses.asdict` converts the map for JSON, `from_dict` restores it, and any array library
    can implement it.
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
        tuples = (self.source, self.scale, self.offset, self.low, self.high)
        lengths = list(map(len, tuples))
        if len(set(lengths)) != 1:
            raise ValueError(
                f"expected source, scale, offset, low and high of one length, got lengths {lengths}"
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
        """The action space that the map is for."""
        if self.discrete:
            return spaces.Discrete(self.size, start=self.start)
        low, high = (np.array(bound, np.float32) for bound in (self.low, self.high))
        if self.integer:
            return spaces.Box(low.astype(np.int64), high.astype(np.int64), dtype=np.int64)
        return spaces.Box(low, high, dtype=np.float32)

    def __call__(self, outputs: NDArray[Any]) -> Float32[np.ndarray, "*batch {self.size}"]:
        """Map raw outputs (..., num_outputs) to encoded actions (..., A).

        Raises:
            ValueError: the last axis is not `num_outputs` long.
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
        """Return executable encoded actions: clipped to the bounds, and rounded if integer."""
        actions = np.rint(actions) if self.integer else actions
        low, high = (np.asarray(bound, dtype=np.float32) for bound in (self.low, self.high))
        result: np.ndarray = np.clip(actions, low, high).astype(np.float32)
        return result

    @classmethod
    def for_space(cls, space: spaces.Space[Any]) -> ActionMap:
        """Return a map for any space: tanh scaled to a Box's bounds, or the largest output.

        Raises:
            UnsupportedActionSpace: neither a 1-D Box with finite bounds nor Discrete.
        """
        size = action_size(space)
        if isinstance(space, spaces.Discrete):
            zeros, ones = (0.0,) * size, (1.0,) * size
            return cls(size, True, tuple(range(size)), ones, zeros, zeros, ones, int(space.start))
        assert isinstance(space, spaces.Box)  # action_size raises for other spaces
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        with np.errstate(invalid="ignore"):
            is_bounded = np.isfinite(low) & np.isfinite(high) & (high - low <= MAX_RANGE)
        if not is_bounded.all():
            raise UnsupportedActionSpace(
                f"expected an action space with finite bounds, at most {MAX_RANGE:,} apart, "
                f"got {space}: declare such bounds, or wrap the environment with "
                "gymnasium.wrappers.RescaleAction or ClipAction"
            )
        return cls(
            num_outputs=size,
            discrete=False,
            source=tuple(range(size)),
            scale=tuple(((high - low) / 2).tolist()),
            offset=tuple(((high + low) / 2).tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            integer=is_integer(space),
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ActionMap:
        """Restore a map from `dataclasses.asdict`, or from JSON, where tuples became lists."""
        tuples = ("source", "scale", "offset", "low", "high")
        values: dict[str, Any] = {k: tuple(v) if k in tuples else v for k, v in fields.items()}
        return cls(**values)
