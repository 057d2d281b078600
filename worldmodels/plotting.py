"""Save pictures of results: grids of frames, curves, bars and scatter plots."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import UInt8

LABEL_WIDTH = 150
SCALE = 2
MAX_CURVES_IN_AXES = 4  # the legend of more curves is placed outside the axes


def save_grid(
    path: Path,
    rows: Mapping[str, UInt8[np.ndarray, "frame height width 3"]],
    columns: Sequence[str] | None = None,
    label_width: int = LABEL_WIDTH,
) -> None:
    """Save rows of enlarged frames as one picture, with the name of each row on the left.

    `label_width` is the width of the column of names in pixels.
    """
    lines = []
    for name, frames in rows.items():
        large = frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
        strip = np.concatenate(np.pad(large, ((0, 0), (1, 1), (1, 1), (0, 0))), axis=1)
        label = np.zeros((len(strip), label_width, 3), np.uint8)
        _text(label, name, (6, len(strip) // 2))
        lines.append(np.concatenate([label, strip], axis=1))
    if columns is not None:
        header = np.zeros((20, lines[0].shape[1], 3), np.uint8)
        width = (lines[0].shape[1] - label_width) // len(columns)
        for number, name in enumerate(columns):
            _text(header, name, (label_width + number * width + 4, 14))
        lines.insert(0, header)
    picture = np.concatenate(lines)
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise OSError(f"could not write {path}: is the disk full?")


def save_curves(
    path: Path,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
) -> None:
    """Save a plot of lines through points (x, y), and of shaded bands.

    A band is a sequence of (x, low, high), and covers the values from low to high at each x.
    """
    with _plot(path, x_label, y_label) as axes:
        for name, band in (bands or {}).items():
            x, low, high = np.array(band).T
            axes.fill_between(x, low, high, alpha=0.2, label=name)
        for name, points in curves.items():
            x, y = np.array(points, dtype=float).reshape(-1, 2).T
            axes.plot(x, y, label=name)
        if len(curves) > MAX_CURVES_IN_AXES:
            axes.figure.legend(loc="outside upper center", ncols=2)
        else:
            axes.legend()


def save_bars(path: Path, bars: Mapping[str, tuple[float, float, float]], *, y_label: str) -> None:
    """Save a plot with one bar per name, and with a whisker on each bar.

    `bars` maps each name to (value, low, high). The bar ends at the value, and the whisker extends
    from low to high.
    """
    values, low, high = np.array(list(bars.values())).T
    whiskers = np.nan_to_num(np.stack([values - low, high - values]))
    with _plot(path, "", y_label, grid="y") as axes:
        axes.bar(list(bars), values, yerr=whiskers, capsize=4)


def save_scatter(
    path: Path, groups: Mapping[str, tuple[np.ndarray, np.ndarray]], *, x_label: str, y_label: str
) -> None:
    """Save a scatter plot of groups of points (x, y), with the line x = y."""
    with _plot(path, x_label, y_label, height=5) as axes:
        for name, (x, y) in groups.items():
            axes.scatter(x, y, s=8, label=name)
        axes.axline((0.0, 0.0), slope=1.0, color="gray", linewidth=1)
        axes.legend()


@contextmanager
def _plot(
    path: Path, x_label: str, y_label: str, *, height: int = 4, grid: Literal["both", "y"] = "both"
) -> Iterator[Any]:
    """Yield the axes of a plot of `height` inches; at the end, write the plot to `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3, axis=grid)
    yield axes
    figure.savefig(path, dpi=110)


def _text(image: np.ndarray, text: str, origin: tuple[int, int]) -> None:
    white = (255, 255, 255)
    cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.42, white, 1, cv2.LINE_AA)
