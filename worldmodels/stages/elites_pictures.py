"""Pictures of a MAP-Elites search: its archive, and how it grew."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely
from ribs.archives import CVTArchive
from ribs.visualize import cvt_archive_heatmap

CURVES = {"coverage": "coverage", "qd_score": "QD score a niche", "mean_fitness": "mean fitness"}


def draw_elites(
    path: Path,
    archive: CVTArchive,
    history: Sequence[Mapping[str, Any]],
    *,
    measures: tuple[str, str],
    region: shapely.Polygon | None = None,
) -> None:
    """The fitness of every niche; and coverage, QD score and mean fitness against evaluations.

    Args:
        measures: names of the two axes of the space of measures.
        region: of that space which can be reached; None draws all of it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplot_mosaic([["heat", name] for name in CURVES], width_ratios=(1.2, 1))
    cvt_archive_heatmap(archive, axes["heat"], lw=0, cmap="viridis", clip=region or False)
    axes["heat"].set(xlabel=measures[0], ylabel=measures[1], title="fitness of each niche's elite")
    if region is not None:
        axes["heat"].set_aspect("equal")
    evaluations = [entry["evaluations"] for entry in history]
    for name, label in CURVES.items():
        axes[name].plot(evaluations, [entry[name] for entry in history])
        axes[name].set(ylabel=label)
        axes[name].grid(alpha=0.3)
    axes["mean_fitness"].set(xlabel="evaluations")
    figure.savefig(path, dpi=110)
