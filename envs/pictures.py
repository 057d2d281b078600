"""The formats that count as pictures, and the conversion of pictures to RGB frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import UInt8
from numpy.typing import NDArray

MIN_SIDE = 16  # pixels: MiniGrid's 7x7 symbols are no picture
_CHANNELS = (1, 3, 4)

EXPECTED = (
    "uint8 or floats in [0, 1] of shape (H, W), (H, W, C) or (C, H, W), where C is 1, 3 or 4, "
    f"and H and W are at least {MIN_SIDE}"
)


class NotAPictureError(ValueError):
    """An array is not a picture, or does not have the format of the earlier pictures."""


@dataclass(frozen=True)
class PictureFormat:
    """The format of the first picture from a source; all later pictures must have this format.

    Attributes:
        shape: shape of the picture's array, including the axis of channels.
        floats: whether values are floats in [0, 1] instead of uint8.
        channel_axis: axis of the channels, which is 0 or 2; None stands for an array with two axes.
    """

    shape: tuple[int, ...]
    floats: bool
    channel_axis: int | None

    @classmethod
    def of(cls, array: NDArray[Any]) -> PictureFormat | None:
        """Return the format of an array, or None if its shape or type does not fit a picture."""
        shape, floats = array.shape, array.dtype.kind == "f"
        if array.dtype != np.uint8 and not floats:
            return None
        if len(shape) == 2 and min(shape) >= MIN_SIDE:
            return cls(shape, floats, None)
        if len(shape) == 3:
            for axis in (2, 0):  # the last axis first, if both could be channels
                sides = shape[:2] if axis == 2 else shape[1:]
                if shape[axis] in _CHANNELS and min(sides) >= MIN_SIDE:
                    return cls(shape, floats, axis)
        return None

    def rgb(self, array: NDArray[Any]) -> UInt8[np.ndarray, "height width 3"]:
        """Convert a picture of this format to uint8 RGB.

        An alpha channel is dropped, and a gray channel is repeated. A picture that is already uint8
        RGB is returned unchanged, without a copy.

        Raises:
            NotAPictureError: the array does not have this format, or has floats outside [0, 1].
        """
        has_type = array.dtype.kind == "f" if self.floats else array.dtype == np.uint8
        if array.shape != self.shape or not has_type:
            raise NotAPictureError(
                f"expected {'floats' if self.floats else 'uint8'} of shape {self.shape}, as "
                f"before, got {describe_value(array)}"
            )
        if self.floats:
            if not (array.min() >= 0 and array.max() <= 1):  # true for NaN
                raise NotAPictureError(
                    f"expected floats in [0, 1], got {array.min():.4g} to {array.max():.4g}"
                )
            array = np.rint(array * 255).astype(np.uint8)
        if self.channel_axis is None:
            return np.repeat(array[:, :, None], 3, axis=2)
        if self.channel_axis == 0:
            array = array.transpose(1, 2, 0)
        if array.shape[2] == 1:
            return np.repeat(array, 3, axis=2)
        return np.ascontiguousarray(array[:, :, :3])


def declares_picture(space: Any) -> bool:
    """Whether all values of a space are pictures; the bounds of floats must lie in [0, 1]."""
    if not isinstance(space, spaces.Box) or space.dtype is None:
        return False
    found = PictureFormat.of(np.broadcast_to(np.zeros((), space.dtype), space.shape))
    if found is None or not found.floats:
        return found is not None
    return bool((space.low >= 0).all() and (space.high <= 1).all())


def is_picture(value: Any, space: Any) -> bool:
    """Whether `value` is a picture; floats are a picture only if `space` has bounds in [0, 1]."""
    found = PictureFormat.of(as_array(value))
    if found is None or not found.floats:
        return found is not None
    return declares_picture(space) and space.dtype.kind == "f"


def as_array(value: Any) -> NDArray[Any]:
    """Return a value as an array, or an empty array if the conversion fails.

    A list of one frame is converted like the frame itself.
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # a ragged list, or a tensor on another device
        return np.empty(0)


def describe_value(value: Any) -> str:
    """Describe a value in a few words."""
    if value is None or (isinstance(value, np.ndarray) and value.dtype == object):
        return "None" if value is None or value.ndim == 0 else "an array of objects"
    if isinstance(value, dict):
        entries = (f"{name} ({describe_value(entry)})" for name, entry in value.items())
        return f"a dict of {', '.join(entries)}"
    if isinstance(value, list | tuple) and len(value) != 1:
        return f"a {type(value).__name__} of {len(value)} items"
    array = as_array(value)
    if array.dtype.kind not in "biufc":
        return f"a {type(value).__name__}"
    return f"{array.dtype} of shape {array.shape}"
