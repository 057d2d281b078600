"""A regular grid of cells for MAP-Elites, in which each axis is one measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.elites import Centroids


def box_centroids(ranges: Sequence[tuple[float, float]], cells: int) -> Centroids:
    """Return the centres of a grid that has `cells` equal cells along the range of each measure.

    For M ranges, the result has the shape (cells ** M, M). The centres are in C order, so the
    position along the first measure varies slowest.

    MAP-Elites assigns a point to the cell with the nearest centre. If the point lies within the
    ranges, the nearest centre is that of the cell that contains the point. The units of the
    measures do not change which centre is nearest, because the grid is regular: the nearest
    position can be found separately for each measure. A point outside the ranges belongs to a cell
    at the border of the grid.

    Raises ValueError if there are no ranges, if a range is empty, or if `cells` is below 1.
    """
    if cells < 1:
        raise ValueError(f"expected at least 1 cell along each measure, got {cells}")
    if not ranges or any(not low < high for low, high in ranges):
        raise ValueError(f"expected at least 1 range, each with low below high, got {list(ranges)}")
    middles = (np.arange(cells) + 0.5) / cells
    axes = [low + (high - low) * middles for low, high in ranges]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(ranges))
