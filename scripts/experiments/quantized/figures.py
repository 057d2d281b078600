"""The plots of docs/results.md, drawn from the result files alone."""

from pathlib import Path

import numpy as np

from scripts.experiments.figures import columns, plot_runs, saved_axes
from scripts.experiments.quantized.kinds import KINDS
from scripts.experiments.quantized.metrics import METRICS, PERTURBED, RunsByKind

SIZE = (7, 4.3)  # inches
LEGEND = {"ncols": 3, "fontsize": "small"}
THOUSANDS = (25, 50, 100, 200, 400)  # agent steps at the ticks


def save_learning(path: Path, results: RunsByKind) -> None:
    """Plot the score of each round's agent against real agent steps, with one line per run."""
    with saved_axes(path, SIZE, LEGEND) as axes:
        for number, (kind, runs) in enumerate(results.items()):
            curves = []
            for result in runs:
                env_steps, scores = columns(result["rounds"], "env_steps", "score")
                curves.append((env_steps / result["open_loop"]["action_repeat"] / 1e3, scores))
            plot_runs(axes, curves, KINDS[kind].label, color=f"C{number}")
        axes.set_xscale("log")
        axes.set_xticks(THOUSANDS, [str(each) for each in THOUSANDS])
        axes.minorticks_off()
        axes.set(
            xlabel="thousand real agent steps, collected and searched",
            ylabel="score of the round's agent, validation tracks",
        )


def save_dreams(path: Path, results: RunsByKind) -> None:
    """Plot the error of dreams under real actions at each step, as mean and range over seeds.

    The plot also shows the errors of V's reconstructions and of the last-frame baseline.
    """
    with saved_axes(path, SIZE, LEGEND) as axes:
        for number, (kind, runs) in enumerate(results.items()):
            for name, label, style in (
                ("predicted", "dream", "-"),
                ("reconstruction", "reconstruction", ":"),
                ("persistence", "last frame", "--"),
            ):
                curves = np.array([result["open_loop"][name] for result in runs])
                steps = runs[0]["open_loop"]["action_repeat"] * np.arange(1, curves.shape[1] + 1)
                color, label = f"C{number}", f"{kind.upper()}, {label}"
                axes.plot(steps, curves.mean(0), style, color=color, label=label)
                if name == "predicted":
                    axes.fill_between(steps, curves.min(0), curves.max(0), color=color, alpha=0.2)
        axes.set(xlabel="env steps since the dream began", ylabel="squared error per frame")


def save_perturbed(path: Path, results: RunsByKind) -> None:
    """Plot scores without and with perturbations: one bar per mean over seeds, one dot per seed."""
    width, ticks = 0.8 / max(len(results), 1), np.arange(len(PERTURBED))
    with saved_axes(path, SIZE, LEGEND, grid="y") as axes:
        for number, (kind, runs) in enumerate(results.items()):
            of_seeds = [METRICS[name].values(runs) for name in PERTURBED]
            places = ticks + number * width
            axes.bar(places, [*map(np.mean, of_seeds)], width, label=KINDS[kind].label)
            for place, values in zip(places, of_seeds, strict=True):
                axes.plot([place] * len(values), values, "k.", markersize=5)
        axes.set_xticks(ticks + 0.4 - width / 2, list(PERTURBED.values()))
        axes.set(ylabel="score, 100 test tracks, fast env")


FIGURES = {"learning": save_learning, "dreams": save_dreams, "perturbed": save_perturbed}
