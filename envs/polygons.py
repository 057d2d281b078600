"""Draw convex polygons with hard edges; the corners may lie between pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFT = 4  # fractional bits of the corners that cv2 is given


def fill_polygons(
    picture: NDArray[np.uint8],
    polygons: Sequence[NDArray[np.float64]] | NDArray[np.float64],
    color: int | tuple[int, ...],
) -> None:
    """Fill polygons with a color, in place.

    A polygon is an array (n, 2) of corners in pixels; (0, 0) is the top left corner of the picture.
    """
    for polygon in polygons:
        # cv2 counts from pixel centres.
        corners = np.rint((polygon - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(picture, corners, color, cv2.LINE_8, _SHIFT)
