"""The log of a running search for C: a progress bar, TensorBoard events and a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from worldmodels.progress import Meter

CURVE = "controller.png"
LOG_EVERY = 20

Entry = Mapping[str, float]


class SearchLog:
    """The log of one search.

    Args:
        unit: name of what the search counts, "generation" or "step". In each entry of the history,
            `unit` is also the key of the count.
    """

    def __init__(self, folder: Path, unit: str, meter: Meter, events: Any) -> None:
        self.folder, self.unit = folder, unit
        self._meter, self._events = meter, events

    def progress(self, done: int, figures: Entry, *, sparse: bool = False) -> None:
        """Report the number of finished units, and the figures of the last finished unit.

        If `sparse` is true, only every `LOG_EVERY`-th unit is recorded. A search sets `sparse` if
        its units are many and short.
        """
        self._meter.to(done)
        if not sparse or done % LOG_EVERY == 0:
            self.record(done, figures)

    def record(self, done: int, figures: Entry) -> None:
        """Show the figures next to the progress bar, and write the figures to TensorBoard."""
        self._meter.show(figures)
        for name, value in figures.items():
            self._events.add_scalar(f"controller/{name}", value, done)

    def draw(self, history: Sequence[Entry]) -> None:
        """Draw the curves of all entries of `history`."""
        draw_history(self.folder / CURVE, history, self.unit)


class Stopwatch:
    """Measures the time of a search, without the time of its evaluations in the real env.

    Args:
        seconds, steps: number of seconds and number of steps that the search took before it was
            resumed.

    Attributes:
        steps: total number of dreamed agent steps or env steps; the search updates this number.
    """

    def __init__(self, seconds: float = 0.0, steps: float = 0.0) -> None:
        self.steps = steps
        self._first = (seconds, steps)
        self._started = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """The seconds that the search has taken so far, without its evaluations."""
        return time.monotonic() - self._started

    @property
    def steps_per_second(self) -> float:
        """The number of steps per second since this process began to search."""
        seconds, steps = self._first
        return (self.steps - steps) / max(self.seconds - seconds, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block from `seconds`."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - before


def draw_history(path: Path, history: Sequence[Entry], unit: str) -> None:
    """Draw the curves of a search: objective and its spread, real score, step size and speed."""
    from matplotlib.figure import Figure

    names = set().union(*history)
    lower = [name for name in ("sigma", "steps_per_second") if name in names]
    figure = Figure(figsize=(7, 4 + 1.5 * len(lower)), layout="constrained")
    heights = [3.0] + [1.0] * len(lower)
    axes = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)
    above, *below = axes[:, 0]
    climbed = above
    if "real_score" in names and "dreamed_return" in names:
        climbed = above.twinx()
        climbed.set(ylabel="dreamed return")
    for place, name, style in (
        (climbed, "best", {"color": "C0", "label": "best"}),
        (climbed, "mean", {"color": "C1", "label": "mean"}),
        (climbed, "dreamed_return", {"color": "C1", "label": "dreamed return"}),
        (above, "real_score", {"color": "C2", "label": "real score", "marker": "o"}),
        *((place, name, {"color": "C3"}) for place, name in zip(below, lower, strict=True)),
    ):
        values = _column(history, name)
        known = ~np.isnan(values)
        if known.any():
            place.plot(_column(history, unit)[known], values[known], markersize=3, **style)
    if "std" in names:
        mean, std = _column(history, "mean"), _column(history, "std")
        shade = {"color": "C1", "alpha": 0.2}
        climbed.fill_between(_column(history, unit), mean - std, mean + std, **shade)
    above.set(ylabel="return")
    figure.legend(loc="outside upper center", ncols=4)
    for place, name in zip(below, lower, strict=True):
        place.set(ylabel=name.replace("_per_", "/"), yscale="log")
    for place in (above, *below):
        place.grid(alpha=0.3)
    axes[-1, 0].set(xlabel=unit)
    figure.savefig(path, dpi=110)


def _column(history: Sequence[Entry], name: str) -> Float[np.ndarray, "entry"]:
    """The value of `name` in each entry; NaN for an entry that has no such value."""
    return np.array([entry.get(name, np.nan) for entry in history], dtype=float)
