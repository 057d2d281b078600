"""The comparison's figures, drawn from its result files alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from scripts.experiments.quantized.kinds import KINDS
from scripts.experiments.quantized.metrics import METRICS, UNDER
from scripts.experiments.quantized.verdicts import Results


def save_learning(path: Path, results: Results) -> None:
    """Score of each round's agent against agent steps in the real game, a line per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes = figure.subplots()
    for (kind, runs), color in zip(results.items(), _colors(), strict=False):
        for number, result in enumerate(runs):
            rows = result["rounds"]
            repeat = result["open_loop"]["action_repeat"]
            axes.plot(
                [row["env_steps"] / repeat / 1e3 for row in rows],
                [row["score"] for row in rows],
                color=color,
                label=KINDS[kind].label if number == 0 else None,
            )
    axes.set_xscale("log")
    axes.set_xticks([25, 50, 100, 200, 400], ["25", "50", "100", "200", "400"])
    axes.minorticks_off()
    axes.set(
        xlabel="thousand real decisions that anything learned from",
        ylabel="score of the round's agent, validation tracks",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=110)


def save_dreams(path: Path, results: Results) -> None:
    """Error of dreams under real actions, step by step: the mean over seeds, and their range.

    Beside it the error of V's frames of what happens, and of a frame that stands still.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes = figure.subplots()
    for (kind, runs), color in zip(results.items(), _colors(), strict=False):
        curves = {
            name: np.array([result["open_loop"][name] for result in runs])
            for name in ("predicted", "reconstruction", "persistence")
        }
        repeat = runs[0]["open_loop"]["action_repeat"]
        steps = repeat * np.arange(1, curves["predicted"].shape[1] + 1)
        dreamed = curves["predicted"]
        axes.plot(steps, dreamed.mean(0), color=color, label=f"{kind.upper()}, dreamed")
        axes.fill_between(steps, dreamed.min(0), dreamed.max(0), color=color, alpha=0.2)
        seen = curves["reconstruction"].mean(0)
        axes.plot(steps, seen, ":", color=color, label=f"{kind.upper()}, seen by V")
        frozen = curves["persistence"].mean(0)
        axes.plot(steps, frozen, "--", color=color, label=f"{kind.upper()}, frozen")
    axes.set(xlabel="env steps since the dream began", ylabel="squared error a frame")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=110)


def save_perturbed(path: Path, results: Results) -> None:
    """Scores as trained and perturbed: means over seeds, and a point each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(len(results), 1)
    for place, (kind, runs) in enumerate(results.items()):
        of_seeds = [METRICS[name].values(runs) for name in UNDER]
        places = np.arange(len(UNDER)) + place * width
        means = [np.mean(values) for values in of_seeds]
        axes.bar(places, means, width, label=KINDS[kind].label)
        for number, values in enumerate(of_seeds):
            axes.plot(np.full(len(values), places[number]), values, "k.", markersize=5)
    axes.set_xticks(np.arange(len(UNDER)) + 0.4 - width / 2, list(UNDER.values()))
    axes.set(ylabel="score, 100 test tracks, fast env")
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=110)


FIGURES: dict[str, tuple[Callable[[Path, Results], None], str]] = {
    "learning.png": (save_learning, "How each run learned"),
    "dreams.png": (save_dreams, "How soon dreams leave what really happens"),
    "perturbed.png": (save_perturbed, "Scores as trained, and perturbed without training again"),
}


def _colors() -> list[str]:
    return [f"C{number}" for number in range(10)]
