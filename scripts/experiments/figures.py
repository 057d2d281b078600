"""Figures of several runs: a color per kind, a line per run."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


@contextmanager
def saved_figure(path: Path, width: float, height: float, **legend: Any) -> Iterator[Figure]:
    """A figure to draw in, which is then saved; with a legend above it if that has settings."""
    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    if legend:
        figure.legend(loc="outside upper center", **legend)
    figure.savefig(path, dpi=110)


def plot_runs(axes: Axes, curves: Iterable[Sequence[Any]], label: str | None, **style: Any) -> None:
    """A line per run, each of (x, y), which share one style and one entry in the legend."""
    for x, y in curves:
        axes.plot(x, y, label=label, **style)
        label = None
