"""Whatever an environment shows as an RGB frame: what counts as a picture, and how it is read."""

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
    "uint8 or floats in [0, 1] of shape (H, W), (H, W, C) or (C, H, W), C being 1, 3 or 4, "
    f"H and W at least {MIN_SIDE}"
)


class NotAPictureError(ValueError):
    """An array that is not of a picture's format, or not of the format of those before it."""


@dataclass(frozen=True)
class PictureFormat:
    """How the pictures of one source are laid out; fixed by the first of them.

    Attributes:
        shape: of the array, with its channels if it has any.
        floats: values in [0, 1] in place of uint8.
        channel_axis: 0 or 2; None for gray pictures without channels.
    """

    shape: tuple[int, ...]
    floats: bool
    channel_axis: int | None

    @classmethod
    def of(cls, array: NDArray[Any]) -> PictureFormat | None:
        """The format of an array; None where it is no picture. Values are not looked at."""
        shape, floats = array.shape, array.dtype.kind == "f"
        if array.dtype != np.uint8 and not floats:
            return None
        if len(shape) == 2 and min(shape) >= MIN_SIDE:
            return cls(shape, floats, None)
        if len(shape) == 3:
            for axis in (2, 0):  # channels come last where both could be
                sides = shape[:2] if axis == 2 else shape[1:]
                if shape[axis] in _CHANNELS and min(sides) >= MIN_SIDE:
                    return cls(shape, floats, axis)
        return None

    def rgb(self, array: NDArray[Any]) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of this format as uint8 RGB; alpha is dropped, gray is repeated.

        uint8 RGB comes back as it is, not copied.

        Raises:
            NotAPictureError: another shape or type, or floats outside [0, 1].
        """
        has_type = array.dtype.kind == "f" if self.floats else array.dtype == np.uint8
        if array.shape != self.shape or not has_type:
            raise NotAPictureError(
                f"expected {'floats' if self.floats else 'uint8'} of shape {self.shape}, as "
                f"before, got {describe_value(array)}"
            )
        if self.floats:
            if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
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
    """Whether a space says that its values are a picture, floats being bounded by 0 and 1."""
    if not isinstance(space, spaces.Box) or space.dtype is None:
        return False
    found = PictureFormat.of(np.broadcast_to(np.zeros((), space.dtype), space.shape))
    if found is None or not found.floats:
        return found is not None
    return bool((space.low >= 0).all() and (space.high <= 1).all())


def is_picture(value: Any, space: Any) -> bool:
    """Whether what came is a picture: floats only where the space bounds them by 0 and 1."""
    found = PictureFormat.of(as_array(value))
    if found is None or not found.floats:
        return found is not None
    return declares_picture(space) and space.dtype.kind == "f"


def as_array(value: Any) -> NDArray[Any]:
    """The array that a value is, or an empty one where it is none; a list of one frame is it."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor elsewhere
        return np.empty(0)


def describe_value(value: Any) -> str:
    """What came, in a few words."""
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
