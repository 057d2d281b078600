"""Plots of several runs, with one color per kind of run and one line per run."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@contextmanager
def saved_axes(
    path: Path,
    size: tuple[float, float],
    legend: Mapping[str, Any] | None = None,
    grid: Literal["both", "y"] | None = "both",
    **subplots: Any,
) -> Iterator[Any]:
    """Yield the axes that `Figure.subplots` returns, and save the figure after the `with` block.

    Args:
        legend: settings of the legend above the axes. The legend lists the labels of the first
            axes. If `legend` is None, there is no legend.
        grid: axis or axes that get grid lines. If `grid` is None, there are no grid lines.
    """
    figure = Figure(figsize=size, layout="constrained")
    yield figure.subplots(**subplots)
    if grid is not None:
        for axes in figure.axes:
            axes.grid(alpha=0.3, axis=grid)
    if legend is not None:
        entries = figure.axes[0].get_legend_handles_labels()
        figure.legend(*entries, loc="outside upper center", **legend)
    figure.savefig(path, dpi=110)


def plot_runs(axes: Axes, curves: Iterable[Any], label: str | None, **style: Any) -> None:
    """Plot one line (x, y) per run. All lines share one style and one entry in the legend."""
    for x, y in curves:
        axes.plot(x, y, label=label, **style)
        label = None


def columns(rows: Iterable[Mapping[str, Any]], *names: str) -> Float[np.ndarray, "name row"]:
    """Return the named values of all rows, one array per name."""
    return np.array([[row[name] for name in names] for row in rows]).T
