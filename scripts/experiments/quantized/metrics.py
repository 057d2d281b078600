"""The figures by which kinds are compared: each with its name, its direction and its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.experiments.quantized.measures import SCORE_THRESHOLD

LAST_ROUNDS = 4
# Metrics that are scores, by what was perturbed.
PERTURBED_SCORES = {"score": "as trained", "color": "colors", "bars": "bars", "blob": "blob"}
SHORT, LONG = 48, 200  # env steps of dreams whose returns are compared
HIGHER, LOWER = True, False

Figure = Callable[[dict[str, Any]], float | None]


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

    def values(self, results: list[dict[str, Any]]) -> list[float]:
        """Of the runs that have one."""
        found = (self.of(result) for result in results)
        return [float(value) for value in found if value is not None]


def _at(*keys: str, scale: float = 1.0) -> Figure:
    """The figure that lies under these keys."""

    def figure(result: dict[str, Any]) -> float | None:
        value: Any = result
        for key in keys:
            value = value.get(key) if value is not None else None
        return None if value is None else scale * float(value)

    return figure


def _dream_error(step: int) -> Figure:
    def error(result: dict[str, Any]) -> float:
        curves = result["open_loop"]
        return float(curves["predicted"][step // curves["action_repeat"] - 1])

    return error


def _bias(steps: int) -> Figure:
    def percent(result: dict[str, Any]) -> float:
        figures = result["dream"]["horizons"][str(steps)]
        return float(100.0 * figures["dreamed"]["bias"] / figures["real_mean"])

    return percent


def _round_std(result: dict[str, Any]) -> float:
    gradient = [row["score"] for row in result["rounds"] if row["search"] == "gradient"]
    return float(np.std(gradient[-LAST_ROUNDS:]))


def _last_reward_r2(result: dict[str, Any]) -> float:
    return float(result["rounds"][-1]["reward_r2"])


def _explained(name: str) -> Figure:
    return _at("explained_variance_by_code", name, scale=100)


METRICS = {
    "score": Metric("score", _at("scores", "none", "mean"), HIGHER),
    "agent_steps_to_threshold": Metric(
        f"agent steps until a score of {SCORE_THRESHOLD}", _at("agent_steps_to_threshold"), LOWER
    ),
    "round_std": Metric(f"standard deviation of the last {LAST_ROUNDS} rounds", _round_std, LOWER),
    "color": Metric("score under other colors", _at("scores", "color", "mean"), HIGHER),
    "bars": Metric("score behind bars", _at("scores", "bars", "mean"), HIGHER),
    "blob": Metric("score beside a blob", _at("scores", "blob", "mean"), HIGHER),
    "dream_error_20": Metric("error of dreams after 20 steps", _dream_error(20), LOWER, 1),
    "dream_error_52": Metric("error of dreams after 52 steps", _dream_error(52), LOWER, 1),
    "dream_error_100": Metric("error of dreams after 100 steps", _dream_error(100), LOWER, 1),
    "bias_short": Metric(f"dreamed minus real return, {SHORT} steps, %", _bias(SHORT), None, 1),
    "bias_long": Metric(f"dreamed minus real return, {LONG} steps, %", _bias(LONG), None, 1),
    "rank": Metric(
        f"rank correlation of dreamed and real returns, {SHORT} steps",
        _at("dream", "horizons", str(SHORT), "dreamed", "rank_correlation"),
        digits=2,
    ),
    "good_rank": Metric(
        "rank correlation among good agents",
        _at("dream", "horizons", str(SHORT), "dreamed", "good_rank_correlation"),
        digits=2,
    ),
    "error": Metric("V's error", _at("vision", "error"), LOWER, 1),
    "foreground_error": Metric(
        "V's error on road and car", _at("vision", "foreground_error"), LOWER, 1
    ),
    "bits_alone": Metric("bits per frame, alone", _at("bits", "alone"), None, 1),
    "bits_persistence": Metric(
        "bits per frame given the last one", _at("bits", "persistence"), None, 1
    ),
    "bits_memory": Metric("bits per frame given M's state", _at("bits", "memory"), LOWER, 1),
    "reward_r2": Metric("R2 of M's rewards, the run's own driving", _last_reward_r2, digits=2),
    "drives_reward_r2": Metric(
        "R2 of M's rewards, the scripted driver's steady laps", _at("memory", "reward_r2"), digits=2
    ),
    "same_cell": Metric(
        "variance of its own cell that a code explains, %", _explained("same_cell")
    ),
    "other_cells": Metric(
        "variance of another cell that a code explains, %", _explained("other_cells")
    ),
    "codes_used": Metric("codes used, %", _at("vision", "codes_used", scale=100)),
    "perplexity": Metric("perplexity of the codes", _at("vision", "perplexity")),
    "minutes": Metric("minutes, one core", _at("minutes")),
}
