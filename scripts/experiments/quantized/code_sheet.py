"""What a code stands for: frames that share one, and how much of a picture it tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from worldmodels.vision import VQVAE
from worldmodels.vision.batched import encode_frames

FrameRow = UInt8[np.ndarray, "frame 64 64 3"]
Codes = Int[np.ndarray, "frame cell"]


def frame_codes(vision: VQVAE, frames: FrameRow) -> Codes:
    """The likeliest codes of frames, cell by cell from the upper left."""
    return vision.mode(encode_frames(vision, frames)).numpy()


def explained_variance_by_code(
    drives: Sequence[tuple[FrameRow, Codes]], grid: int
) -> Float[np.ndarray, "code_cell cell"]:
    """Share of what varies in the pixels of a cell that the code of a cell, alone, tells.

    A code's picture of a cell is the mean of that cell over the frames of every other drive that
    have the code; the share is 1 - squared error / squared error of the mean of all, on the other
    half of the drives. It is below 0 where a code tells less than nothing of drives unseen.

    Args:
        drives: frames and codes, two drives at least.

    Returns: a row for the cell that the code is taken from, a column for the one it tells of.
    """
    half = [
        (
            np.concatenate([_cells(frames, grid) for frames, _ in part]),
            np.concatenate([codes for _, codes in part]),
        )
        for part in (drives[::2], drives[1::2])
    ]
    (known, known_codes), (unseen, unseen_codes) = half
    mean = known.mean(0)
    spread = np.square(unseen - mean).sum((0, 2))
    fractions = []
    for cell in range(known.shape[1]):
        explained = np.zeros(known.shape[1])
        for value in np.unique(unseen_codes[:, cell]):
            same = known_codes[:, cell] == value
            picture = known[same].mean(0) if same.any() else mean
            explained += np.square(unseen[unseen_codes[:, cell] == value] - picture).sum((0, 2))
        fractions.append(1.0 - explained / np.maximum(spread, 1e-9))
    return np.array(fractions)


def _cells(frames: FrameRow, grid: int) -> Float[np.ndarray, "frame cell value"]:
    """Frames cut into grid x grid cells, in 0 to 1."""
    side = frames.shape[1] // grid
    parts = frames.reshape(len(frames), grid, side, grid, side, 3).swapaxes(2, 3)
    return parts.reshape(len(frames), grid * grid, -1).astype(np.float32) / 255.0


def code_sheet(
    frames: FrameRow, codes: Codes, *, grid: int, rows: int, columns: int
) -> dict[str, UInt8[np.ndarray, "column 64 64 3"]]:
    """A row each of the codes of one cell of the grid that tell most, by a name for it.

    What a code tells is how often it comes times the squared distance from the mean picture of
    its cell with it to that of all frames; the cell is the one whose codes tell most together. It
    is framed in every picture. Frames of a row are spread over all that have the code, so that
    they are no neighbours.
    """
    parts = _cells(frames, grid)
    explained_by = [_explained_by(parts[:, cell], codes[:, cell]) for cell in range(grid * grid)]
    cell = int(np.argmax([sum(of_codes.values()) for of_codes in explained_by]))
    sheet = {}
    for value in sorted(explained_by[cell], key=lambda value: -explained_by[cell][value])[:rows]:
        places = np.flatnonzero(codes[:, cell] == value)
        chosen = places[np.linspace(0, len(places) - 1, columns).astype(int)]
        sheet[f"code {value}: {len(places)}"] = framed(frames[chosen], cell, grid)
    return sheet


def _explained_by(
    pictures: Float[np.ndarray, "frame value"], codes: Int[np.ndarray, "frame"]
) -> dict[int, float]:
    """What each code of a cell tells of it."""
    mean = pictures.mean(0)
    explained = {}
    for value in np.unique(codes):
        same = pictures[codes == value]
        explained[int(value)] = len(same) * float(np.square(same.mean(0) - mean).sum())
    return explained


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
