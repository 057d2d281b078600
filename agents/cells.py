"""A regular grid of cells in a box of measures, so that a picture's axes can be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.elites import Centroids


def box_centroids(ranges: Sequence[tuple[float, float]], cells: int) -> Centroids:
    """Return the centres of `cells` equal cells along each of M measures, (cells ** M, M).

    The index of the first measure varies slowest. A point belongs to the nearest centre. Inside the
    box, this is the cell that contains the point, in any units of the measures, because each
    coordinate is compared by itself. A point outside the box belongs to a cell at the border.

    Raises ValueError where there are no measures, a range is empty, or cells are fewer than 1.
    """
    if cells < 1:
        raise ValueError(f"expected 1 cell or more along each measure, got {cells}")
    if not ranges or any(not low < high for low, high in ranges):
        raise ValueError(f"expected 1 range or more with low below high, got {list(ranges)}")
    middles = (np.arange(cells) + 0.5) / cells
    axes = [low + (high - low) * middles for low, high in ranges]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(ranges))
