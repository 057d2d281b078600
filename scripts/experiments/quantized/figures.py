"""The study's figures, drawn from its result files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.experiments.quantized.kinds import KINDS
from scripts.experiments.quantized.metrics import METRICS, PERTURBED_SCORES
from scripts.experiments.quantized.verdicts import RunsByKind


@contextmanager
def _axes(path: Path) -> Iterator[Axes]:
    """Axes of a figure that is saved with a legend above it."""
    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes: Axes = figure.subplots()
    yield axes
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=110)


def save_learning(path: Path, results: RunsByKind) -> None:
    """Score of each round's agent against agent steps in the real env, a line per run."""
    with _axes(path) as axes:
        for color, (kind, runs) in enumerate(results.items()):
            for number, result in enumerate(runs):
                repeat = result["open_loop"]["action_repeat"]
                axes.plot(
                    [row["env_steps"] / repeat / 1e3 for row in result["rounds"]],
                    [row["score"] for row in result["rounds"]],
                    color=f"C{color}",
                    label=KINDS[kind].label if number == 0 else None,
                )
        axes.set_xscale("log")
        axes.set_xticks([25, 50, 100, 200, 400], ["25", "50", "100", "200", "400"])
        axes.minorticks_off()
        axes.set(
            xlabel="thousand real agent steps, collected and searched",
            ylabel="score of the round's agent, validation tracks",
        )
        axes.grid(alpha=0.3)


def save_dreams(path: Path, results: RunsByKind) -> None:
    """Error of dreams under real actions, step by step: the mean over seeds, and their range.

    Beside it the error of V's reconstructions and of the last-frame baseline.
    """
    with _axes(path) as axes:
        for color, (kind, runs) in enumerate(results.items()):
            for name, label, style in (
                ("predicted", "dream", "-"),
                ("reconstruction", "reconstruction", ":"),
                ("persistence", "last frame", "--"),
            ):
                curves = np.array([result["open_loop"][name] for result in runs])
                steps = runs[0]["open_loop"]["action_repeat"] * np.arange(1, curves.shape[1] + 1)
                label = f"{kind.upper()}, {label}"
                axes.plot(steps, curves.mean(0), style, color=f"C{color}", label=label)
                if name == "predicted":
                    low, high = curves.min(0), curves.max(0)
                    axes.fill_between(steps, low, high, color=f"C{color}", alpha=0.2)
        axes.set(xlabel="env steps since the dream began", ylabel="squared error per frame")
        axes.grid(alpha=0.3)


def save_perturbed(path: Path, results: RunsByKind) -> None:
    """Scores as trained and perturbed: means over seeds, and a point per seed."""
    width = 0.8 / max(len(results), 1)
    with _axes(path) as axes:
        for place, (kind, runs) in enumerate(results.items()):
            of_seeds = [METRICS[name].values(runs) for name in PERTURBED_SCORES]
            places = np.arange(len(PERTURBED_SCORES)) + place * width
            means = [np.mean(values) for values in of_seeds]
            axes.bar(places, means, width, label=KINDS[kind].label)
            for number, values in enumerate(of_seeds):
                axes.plot(np.full(len(values), places[number]), values, "k.", markersize=5)
        ticks = np.arange(len(PERTURBED_SCORES)) + 0.4 - width / 2
        axes.set_xticks(ticks, list(PERTURBED_SCORES.values()))
        axes.set(ylabel="score, 100 test tracks, fast env")
        axes.grid(alpha=0.3, axis="y")


FIGURES: dict[str, tuple[Callable[[Path, RunsByKind], None], str]] = {
    "learning.png": (save_learning, "How each run learned"),
    "dreams.png": (save_dreams, "How soon dreams diverge from what happens"),
    "perturbed.png": (save_perturbed, "Scores as trained, and perturbed without training again"),
}
