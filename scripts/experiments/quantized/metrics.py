"""The metrics by which kinds of V are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scripts.experiments.driving import REPEAT
from scripts.experiments.estimates import Estimate, difference, mean_over
from scripts.experiments.experiment import Result
from scripts.experiments.quantized.measures import SCORE_THRESHOLD

BASE, CODES = "vae", ("fsq", "vq")
LAST_ROUNDS = 4
# Metrics that are scores, with labels of their perturbations.
PERTURBED = {"score": "as trained", "color": "colors", "bars": "bars", "blob": "blob"}
SHORT, LONG = 48, 200  # env steps of dreams whose returns are compared
HIGHER, LOWER = True, False

RunsByKind = Mapping[str, list[Result]]


@dataclass(frozen=True)
class Metric:
    """One metric of a run.

    Attributes:
        of: the path of the metric's value within a result file, or a function that computes the
            value from the content of a result file.
        higher_is_better: whether higher values are better; None if neither higher nor lower values
            are better.
        digits: number of decimals that are shown.
        scale: factor by which the value is multiplied.
    """

    label: str
    of: str | Callable[[Result], float]
    higher_is_better: bool | None = None
    digits: int = 0
    scale: float = 1.0

    def values(self, results: list[Result]) -> list[float]:
        """Return the metric's values for all runs that have a value."""
        figure = partial(_at, self.of) if isinstance(self.of, str) else self.of
        return [self.scale * value for value in map(figure, results) if value is not None]

    def mean(self, results: list[Result]) -> str:
        """Format the mean over runs, with its interval; return "" if no run has a value."""
        values = self.values(results)
        return mean_over(values).text(self.digits) if values else ""

    def cell(self, results: list[Result]) -> str:
        """Format the mean; if only some runs have a value, add the number of these runs."""
        count, mean = len(self.values(results)), self.mean(results)
        return f"{mean} ({count} of {len(results)} runs)" if 0 < count < len(results) else mean

    def difference_cell(self, results: RunsByKind, kind: str) -> str:
        """Format the difference, bold if it is significant; return "" if there is none."""
        found = self.difference(results, kind)
        if found is None:
            return ""
        bold = "**" * found.significant
        return f"{bold}{found.text(self.digits)}{bold}"

    def difference(self, results: RunsByKind, kind: str) -> Estimate | None:
        """Return the mean of one kind of codes minus the mean of latents.

        Return None if codes or latents have fewer than two runs, or have a run without a value.
        """
        runs = [results.get(kind, []), results.get(BASE, [])]
        values = [self.values(side) for side in runs]
        if [len(side) for side in values] != [max(2, len(side)) for side in runs]:
            return None
        return difference(*values)

    def answer(self, results: RunsByKind) -> str:
        """Return a sentence with this metric's mean for each kind of V.

        The sentence is empty if no run of a quantized V has a value.
        """
        texts = []
        for kind in CODES:
            mean, found = self.mean(results.get(kind, [])), self.difference(results, kind)
            if found is not None:
                verdict = "" if found.significant else " (not a significant difference)"
                mean += f" and the VAE has {self.mean(results[BASE])}{verdict}"
            if mean:
                texts.append(f"{kind.upper()} has {mean}")
        label = self.label[0].upper() + self.label[1:]
        return f"{label}: {'; '.join(texts)}." if texts else ""


def _at(path: str, value: Any) -> Any:
    """Return the value at the path within a result, or None if the result has no such value."""
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else (value or {}).get(key)
    return value


def _dream_error(step: int) -> Metric:
    path = f"open_loop.predicted.{step // REPEAT - 1}"
    return Metric(f"error of dreams after {step} env steps", path, LOWER, 1)


def _bias(steps: int) -> Metric:
    def percent(result: Result) -> float:
        figures = result["dream"]["horizons"][str(steps)]
        return float(100.0 * figures["dreamed"]["bias"] / figures["real_mean"])

    return Metric(f"dreamed minus real return over {steps} env steps, %", percent, None, 1)


def _round_std(result: Result) -> float:
    gradient = [row["score"] for row in result["rounds"] if row["search"] == "gradient"]
    return float(np.std(gradient[-LAST_ROUNDS:]))


_RANK = f"dream.horizons.{SHORT}.dreamed"
_BY_CODE = "explained_variance_by_code"
METRICS = {
    "score": Metric("score", "scores.none.mean", HIGHER),
    "agent_steps_to_threshold": Metric(
        f"agent steps until a score of {SCORE_THRESHOLD}", "agent_steps_to_threshold", LOWER
    ),
    "round_std": Metric(
        f"standard deviation of the scores of the last {LAST_ROUNDS} rounds", _round_std, LOWER
    ),
    "color": Metric("score with other colors", "scores.color.mean", HIGHER),
    "bars": Metric("score with bars", "scores.bars.mean", HIGHER),
    "blob": Metric("score with a blob", "scores.blob.mean", HIGHER),
    **{f"dream_error_{step}": _dream_error(step) for step in (20, 52, 100)},
    "bias_short": _bias(SHORT),
    "bias_long": _bias(LONG),
    "rank": Metric(
        f"rank correlation of dreamed and real returns over {SHORT} env steps",
        f"{_RANK}.rank_correlation",
        digits=2,
    ),
    "good_rank": Metric(
        "rank correlation among good agents", f"{_RANK}.good_rank_correlation", digits=2
    ),
    "error": Metric("V's error", "vision.error", LOWER, 1),
    "foreground_error": Metric("V's error on road and car", "vision.foreground_error", LOWER, 1),
    "bits_alone": Metric("bits per frame without context", "bits.alone", None, 1),
    "bits_persistence": Metric("bits per frame given the last frame", "bits.persistence", None, 1),
    "bits_memory": Metric("bits per frame given M's state", "bits.memory", LOWER, 1),
    "reward_r2": Metric(
        "R2 of M's rewards on the run's own driving", "rounds.-1.reward_r2", None, 2
    ),
    "drives_reward_r2": Metric(
        "R2 of M's rewards on steady laps of the scripted driver", "memory.reward_r2", None, 2
    ),
    "same_cell": Metric(
        "variance in a code's own cell that the code explains, %",
        f"{_BY_CODE}.same_cell",
        scale=100,
    ),
    "other_cells": Metric(
        "variance in another cell that a code explains, %", f"{_BY_CODE}.other_cells", scale=100
    ),
    "codes_used": Metric("codes used, %", "vision.codes_used", scale=100),
    "perplexity": Metric("perplexity of the codes", "vision.perplexity"),
    "minutes": Metric("minutes on one core", "minutes"),
}
