"""Picture of an archive of drivers: its niches by what was measured, and how it grew."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ribs.archives import CVTArchive

from envs.measures import Measure


def draw_driving(
    path: Path,
    archive: CVTArchive,
    measures: Sequence[Measure],
    cells: int,
    history: Sequence[Mapping[str, Any]],
    qd_offset: float,
) -> None:
    """The return of each niche's elite; and coverage, QD score and mean return by evaluations.

    Args:
        measures: one or two; niches are `cells` along each, the first one slowest.
        qd_offset: that the QD score adds to each return, for its label.
    """
    from matplotlib.figure import Figure

    returns = np.full(archive.cells, np.nan)
    returns[archive.data("index")] = archive.data("objective")
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(1.2, 1)))
    heat = left.subplots()
    edges = [np.linspace(each.low, each.high, cells + 1) for each in measures]
    second = edges[1] if len(measures) > 1 else np.array([0.0, 1.0])
    mesh = heat.pcolormesh(edges[0], second, returns.reshape(cells, -1).T, cmap="viridis")
    left.colorbar(mesh, label="return of the elite")
    heat.set(xlabel=measures[0].label, title="a niche a cell; white: none drives so")
    if len(measures) > 1:
        heat.set(ylabel=measures[1].label)
    else:
        heat.set_yticks([])
    curves = {
        "coverage": "coverage",
        "qd_score": f"QD score a niche,\nreturn + {qd_offset:g}",
        "mean_fitness": "mean return",
    }
    evaluations = [entry["evaluations"] for entry in history]
    axes = right.subplots(len(curves), sharex=True)
    for axis, (name, label) in zip(axes, curves.items(), strict=True):
        axis.plot(evaluations, [entry[name] for entry in history])
        axis.set(ylabel=label)
        axis.grid(alpha=0.3)
    axes[-1].set(xlabel="evaluations")
    figure.savefig(path, dpi=110)
