"""Logs of a MAP-Elites search: TensorBoard events, a learning curve, and a picture of elites."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely
from ribs.archives import CVTArchive
from ribs.visualize import cvt_archive_heatmap

from agents.elites import EliteStats

Entry = Mapping[str, Any]
CURVE, PICTURE = "curve.csv", "elites.png"
LOGGED = ("coverage", "norm_qd_score", "mean_fitness", "best_fitness", "added")


def log_events(events: Any, stats: EliteStats) -> None:
    """Write statistics of a search to TensorBoard; the step is the number of evaluations."""
    for name in LOGGED:
        events.add_scalar(f"elites/{name}", getattr(stats, name), stats.evaluations)


def write_figures(
    folder: Path,
    archive: CVTArchive,
    history: Sequence[Entry],
    *,
    fitness: str,
    measures: Sequence[str],
    qd_score_offset: float,
    region: shapely.Polygon | None = None,
) -> None:
    """Write the learning curve as CSV, and draw a picture of the curve and of the archive.

    The picture of the archive shows the fitness of the elite in each cell.

    Args:
        fitness, measures: names of the fitness and of one or two measures, for the labels of the
            picture.
        qd_score_offset: the number that the QD score subtracts from each fitness. The label of the
            QD score shows this number.
        region: the part of the space of measures that solutions can reach. Only this part is drawn.
            If `region` is None, the whole space is drawn.
    """
    from matplotlib.figure import Figure

    with (folder / CURVE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    curves = {
        "coverage": "coverage",
        "norm_qd_score": f"QD score per cell,\n{fitness} + {-qd_score_offset:.3g}",
        "mean_fitness": f"mean {fitness}",
    }
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplot_mosaic([["heat", name] for name in curves], width_ratios=(1.2, 1))
    heat = axes["heat"]
    cvt_archive_heatmap(archive, heat, lw=0, cmap="viridis", clip=region or False)
    heat.set(xlabel=measures[0], title=f"{fitness} of each cell's elite; white cells have none")
    if len(measures) > 1:
        heat.set(ylabel=measures[1])
    if region is not None:
        heat.set_aspect("equal")
    evaluations = [entry["evaluations"] for entry in history]
    for name, label in curves.items():
        axes[name].plot(evaluations, [entry[name] for entry in history])
        axes[name].set(ylabel=label)
        axes[name].grid(alpha=0.3)
    axes["mean_fitness"].set(xlabel="evaluations")
    figure.savefig(folder / PICTURE, dpi=110)
