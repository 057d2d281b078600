"""Real frames that share a code: does a code name something one can recognise?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, UInt8

from worldmodels.vision import VQVAE

FrameRow = UInt8[np.ndarray, "frame 64 64 3"]


@torch.no_grad()
def code_sheet(
    vision: VQVAE, frames: Sequence[UInt8[np.ndarray, "_ 64 64 3"]], *, rows: int, columns: int
) -> dict[str, FrameRow]:
    """A row each of the commonest codes of one cell of the grid, by a name for it.

    The cell is the one where most codes occur; it is framed in every picture. Frames of a row are
    spread over all that have the code, so that they are no neighbours.

    Args:
        frames: of several drives.
    """
    pictures = np.concatenate(list(frames))
    parts = torch.from_numpy(pictures).split(256)
    codes = torch.cat([vision.mode(vision.encode(part)) for part in parts]).numpy()
    cell = liveliest_cell(codes)
    values, counts = np.unique(codes[:, cell], return_counts=True)
    sheet = {}
    for value in values[np.argsort(-counts, kind="stable")][:rows]:
        places = np.flatnonzero(codes[:, cell] == value)
        chosen = places[np.linspace(0, len(places) - 1, columns).astype(int)]
        sheet[f"code {value}: {len(places)}"] = framed(pictures[chosen], cell, vision.config.grid)
    return sheet


def liveliest_cell(codes: Int[np.ndarray, "frame cell"]) -> int:
    """The cell in which most different codes occur, the first of several."""
    return int(np.argmax([len(np.unique(column)) for column in codes.T]))


def framed(pictures: FrameRow, cell: int, grid: int) -> FrameRow:
    """The pictures with the border of one cell, of grid x grid, in yellow."""
    side = pictures.shape[1] // grid
    top, left = cell // grid * side, cell % grid * side
    marked = pictures.copy()
    border = np.zeros(pictures.shape[1:3], bool)
    border[top : top + side, left : left + side] = True
    border[top + 1 : top + side - 1, left + 1 : left + side - 1] = False
    marked[:, border] = (255, 255, 0)
    return marked
