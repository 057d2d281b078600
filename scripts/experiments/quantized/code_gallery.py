"""Pictures of frames that share a code, and measures of the variance that a code explains."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from worldmodels.plotting import save_grid
from worldmodels.vision import VQVAE
from worldmodels.vision.batched import encode_frames

FrameRow = UInt8[np.ndarray, "frame 64 64 3"]
Codes = Int[np.ndarray, "frame cell"]


def code_measures(vision: VQVAE, drives: Sequence[np.ndarray], gallery: Path) -> dict[str, float]:
    """Measure how much variance a single code explains, and draw frames that share a code.

    Returns: `same_cell`, the fraction of a cell's variance that the code of the same cell explains,
        and `other_cells`, the fraction that the code of another cell explains. Both are means over
        cells.
    """
    codes = [frame_codes(vision, frames) for frames in drives]
    grid = vision.config.grid
    explained = explained_variance_by_code(list(zip(drives, codes, strict=True)), grid)
    same_cell = np.diagonal(explained)
    of_all = np.concatenate(drives), np.concatenate(codes)
    save_grid(gallery, code_gallery(*of_all, grid=grid, rows=6, columns=10))
    others = (explained.sum() - same_cell.sum()) / (explained.size - len(same_cell))
    return {"same_cell": float(same_cell.mean()), "other_cells": float(others)}


def frame_codes(vision: VQVAE, frames: FrameRow) -> Codes:
    """Return the most likely codes of frames, cell by cell from the upper left."""
    return vision.mode(encode_frames(vision, frames)).numpy()


def explained_variance_by_code(
    drives: Sequence[tuple[FrameRow, Codes]], grid: int
) -> Float[np.ndarray, "code_cell cell"]:
    """Return the fraction of each cell's pixel variance that the code of each cell explains.

    A code's prediction of a cell is the mean picture of the cell over all frames with this code.
    The mean pictures are computed on every second drive. The fraction is computed on the other
    drives: 1 - (squared error of the prediction) / (squared error of the mean of all frames). The
    fraction is negative if the prediction is worse than the mean of all frames.

    Args:
        drives: frames and codes of two or more drives.

    Returns: one row per cell whose code explains, and one column per cell that is explained.
    """

    def joined(half: Sequence[tuple[FrameRow, Codes]]) -> tuple[np.ndarray, np.ndarray]:
        frames, codes = zip(*half, strict=True)
        return np.concatenate([_cells(each, grid) for each in frames]), np.concatenate(codes)

    (fitted, fitted_codes), (held_out, held_out_codes) = joined(drives[::2]), joined(drives[1::2])
    mean = fitted.mean(0)
    variance = np.square(held_out - mean).sum((0, 2))
    fractions = []
    for cell in range(fitted.shape[1]):
        error = np.zeros(fitted.shape[1])
        for value in np.unique(held_out_codes[:, cell]):
            same = fitted_codes[:, cell] == value
            picture = fitted[same].mean(0) if same.any() else mean
            error += np.square(held_out[held_out_codes[:, cell] == value] - picture).sum((0, 2))
        fractions.append(1.0 - error / np.maximum(variance, 1e-9))
    return np.array(fractions)


def _cells(frames: FrameRow, grid: int) -> Float[np.ndarray, "frame cell value"]:
    """Cut frames into grid x grid cells, and scale pixel values to the range from 0 to 1."""
    side = frames.shape[1] // grid
    parts = frames.reshape(len(frames), grid, side, grid, side, 3).swapaxes(2, 3)
    return parts.reshape(len(frames), grid * grid, -1).astype(np.float32) / 255.0


def code_gallery(
    frames: FrameRow, codes: Codes, *, grid: int, rows: int, columns: int
) -> dict[str, UInt8[np.ndarray, "column 64 64 3"]]:
    """Return labeled rows of frames. All frames of a row have the same code in one chosen cell.

    The chosen cell is the cell whose codes explain most variance in total. The rows are for those
    codes of this cell that explain most variance. The variance that a code explains is the number
    of frames with the code, times the squared distance between two means of the cell: the mean over
    the frames with the code, and the mean over all frames. The chosen cell is framed in every
    picture. The frames of a row are spread evenly over all frames with the code.
    """
    parts = _cells(frames, grid)
    explained = [_explained(parts[:, cell], codes[:, cell]) for cell in range(grid * grid)]
    cell = int(np.argmax([sum(of_codes.values()) for of_codes in explained]))
    gallery = {}
    for value in sorted(explained[cell], key=lambda value: -explained[cell][value])[:rows]:
        places = np.flatnonzero(codes[:, cell] == value)
        chosen = places[np.linspace(0, len(places) - 1, columns).astype(int)]
        gallery[f"code {value}: {len(places)}"] = framed(frames[chosen], cell, grid)
    return gallery


def _explained(
    pictures: Float[np.ndarray, "frame value"], codes: Int[np.ndarray, "frame"]
) -> dict[int, float]:
    """Return, for each code of a cell, the variance of the cell that the code explains."""
    mean = pictures.mean(0)
    explained = {}
    for value in np.unique(codes):
        same = pictures[codes == value]
        explained[int(value)] = len(same) * float(np.square(same.mean(0) - mean).sum())
    return explained


def framed(pictures: FrameRow, cell: int, grid: int) -> FrameRow:
    """Return copies of the pictures, with a yellow border around one of the grid x grid cells."""
    side = pictures.shape[1] // grid
    top, left = cell // grid * side, cell % grid * side
    marked = pictures.copy()
    of_cell = marked[:, top : top + side, left : left + side]
    of_cell[:, [0, -1]] = of_cell[:, :, [0, -1]] = (255, 255, 0)
    return marked
