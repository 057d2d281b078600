"""The figures by which kinds are compared: each with its name, its direction and its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

from scripts.experiments.driving import REPEAT
from scripts.experiments.estimates import Estimate, difference, mean_over
from scripts.experiments.experiment import Result
from scripts.experiments.quantized.measures import SCORE_THRESHOLD

BASE, CODES = "vae", ("fsq", "vq")
LAST_ROUNDS = 4
# Metrics that are scores, by what was perturbed.
PERTURBED = {"score": "as trained", "color": "colors", "bars": "bars", "blob": "blob"}
SHORT, LONG = 48, 200  # env steps of dreams whose returns are compared
HIGHER, LOWER = True, False

Figure = Callable[[Result], float | None]
RunsByKind = Mapping[str, list[Result]]


@dataclass(frozen=True)
class Metric:
    """One figure of a run's result file.

    Attributes:
        of: the figure, None where the run has none.
        higher_is_better: None where neither direction is better.
        digits: shown behind the point.
    """

    label: str
    of: Figure
    higher_is_better: bool | None = None
    digits: int = 0

    def values(self, results: list[Result]) -> list[float]:
        """Of the runs that have one."""
        return [float(value) for value in map(self.of, results) if value is not None]

    def mean(self, results: list[Result]) -> str:
        """The mean over the runs that have one, with its interval; empty where none has."""
        values = self.values(results)
        return mean_over(values).text(self.digits) if values else ""

    def cell(self, results: list[Result]) -> str:
        """The mean, and over how many runs it is if not over all."""
        count, mean = len(self.values(results)), self.mean(results)
        return f"{mean} ({count} of {len(results)} runs)" if 0 < count < len(results) else mean

    def difference_cell(self, results: RunsByKind, kind: str) -> str:
        """The difference to latents, bold where significant; empty where there is none."""
        found = self.difference(results, kind)
        if found is None:
            return ""
        bold = "**" * found.significant
        return f"{bold}{found.text(self.digits)}{bold}"

    def difference(self, results: RunsByKind, kind: str) -> Estimate | None:
        """A kind's mean minus that of latents; None for fewer than two runs, or one without it."""
        runs = [results.get(kind, []), results.get(BASE, [])]
        values = [self.values(side) for side in runs]
        if [len(side) for side in values] != [max(2, len(side)) for side in runs]:
            return None
        return difference(*values)


def _at(*keys: str | int, scale: float = 1.0) -> Figure:
    """The figure that lies under these keys."""

    def figure(result: Result) -> float | None:
        try:
            value: Any = reduce(getitem, keys, result)  # type: ignore[arg-type]
        except KeyError:
            return None
        return None if value is None else scale * value

    return figure


def _dream_error(step: int) -> Metric:
    figure = _at("open_loop", "predicted", step // REPEAT - 1)
    return Metric(f"error of dreams after {step} steps", figure, LOWER, 1)


def _bias(steps: int) -> Metric:
    def percent(result: Result) -> float:
        figures = result["dream"]["horizons"][str(steps)]
        return float(100.0 * figures["dreamed"]["bias"] / figures["real_mean"])

    return Metric(f"dreamed minus real return, {steps} steps, %", percent, None, 1)


def _rank(label: str, name: str) -> Metric:
    return Metric(label, _at("dream", "horizons", str(SHORT), "dreamed", name), digits=2)


def _explained(cell: str, name: str) -> Metric:
    figure = _at("explained_variance_by_code", name, scale=100)
    return Metric(f"variance of {cell} cell that a code explains, %", figure)


def _round_std(result: Result) -> float:
    gradient = [row["score"] for row in result["rounds"] if row["search"] == "gradient"]
    return float(np.std(gradient[-LAST_ROUNDS:]))


METRICS = {
    "score": Metric("score", _at("scores", "none", "mean"), HIGHER),
    "agent_steps_to_threshold": Metric(
        f"agent steps until a score of {SCORE_THRESHOLD}", _at("agent_steps_to_threshold"), LOWER
    ),
    "round_std": Metric(f"standard deviation of the last {LAST_ROUNDS} rounds", _round_std, LOWER),
    "color": Metric("score under other colors", _at("scores", "color", "mean"), HIGHER),
    "bars": Metric("score behind bars", _at("scores", "bars", "mean"), HIGHER),
    "blob": Metric("score beside a blob", _at("scores", "blob", "mean"), HIGHER),
    **{f"dream_error_{step}": _dream_error(step) for step in (20, 52, 100)},
    "bias_short": _bias(SHORT),
    "bias_long": _bias(LONG),
    "rank": _rank(
        f"rank correlation of dreamed and real returns, {SHORT} steps", "rank_correlation"
    ),
    "good_rank": _rank("rank correlation among good agents", "good_rank_correlation"),
    "error": Metric("V's error", _at("vision", "error"), LOWER, 1),
    "foreground_error": Metric(
        "V's error on road and car", _at("vision", "foreground_error"), LOWER, 1
    ),
    "bits_alone": Metric("bits per frame, alone", _at("bits", "alone"), None, 1),
    "bits_persistence": Metric(
        "bits per frame given the last one", _at("bits", "persistence"), None, 1
    ),
    "bits_memory": Metric("bits per frame given M's state", _at("bits", "memory"), LOWER, 1),
    "reward_r2": Metric(
        "R2 of M's rewards, the run's own driving", _at("rounds", -1, "reward_r2"), digits=2
    ),
    "drives_reward_r2": Metric(
        "R2 of M's rewards, the scripted driver's steady laps", _at("memory", "reward_r2"), digits=2
    ),
    "same_cell": _explained("its own", "same_cell"),
    "other_cells": _explained("another", "other_cells"),
    "codes_used": Metric("codes used, %", _at("vision", "codes_used", scale=100)),
    "perplexity": Metric("perplexity of the codes", _at("vision", "perplexity")),
    "minutes": Metric("minutes, one core", _at("minutes")),
}
