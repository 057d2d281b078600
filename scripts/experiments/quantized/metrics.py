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
HIGHER, LOWER, NEITHER = True, False, None

Figure = Callable[[dict[str, Any]], float | None]


@dataclass(frozen=True)
class Metric:
    """One figure of a run's result file.

    Attributes:
        label: as the table has it.
        noun: as a sentence has it.
        higher_is_better: None where neither direction is better.
        of: the figure, None where the run has none.
        digits: shown behind the point.
    """

    label: str
    noun: str
    higher_is_better: bool | None
    of: Figure
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


def _dreamed(name: str) -> Figure:
    return _at("dream", "horizons", str(SHORT), "dreamed", name)


def _round_std(result: dict[str, Any]) -> float:
    gradient = [row["score"] for row in result["rounds"] if row["search"] == "gradient"]
    return float(np.std(gradient[-LAST_ROUNDS:]))


def _score(name: str) -> Figure:
    return _at("scores", name, "mean")


def _explained(name: str) -> Figure:
    return _at("explained_variance_by_code", name, scale=100)


METRICS = {
    "score": Metric("score, 100 test tracks", "score", HIGHER, _score("none")),
    "agent_steps_to_threshold": Metric(
        f"real agent steps until a score of {SCORE_THRESHOLD}",
        f"agent steps until a score of {SCORE_THRESHOLD}",
        LOWER,
        _at("agent_steps_to_threshold"),
    ),
    "round_std": Metric(
        f"standard deviation of the last {LAST_ROUNDS} rounds in the dream",
        "standard deviation over rounds",
        LOWER,
        _round_std,
    ),
    "color": Metric("score, other colors", "score under other colors", HIGHER, _score("color")),
    "bars": Metric("score, black bars", "score behind bars", HIGHER, _score("bars")),
    "blob": Metric("score, red blob", "score beside a blob", HIGHER, _score("blob")),
    "dream_error_20": Metric(
        "error of dreams after 20 steps",
        "error of dreams after 20 steps",
        LOWER,
        _dream_error(20),
        1,
    ),
    "dream_error_52": Metric(
        "after 52 steps", "error of dreams after 52 steps", LOWER, _dream_error(52), 1
    ),
    "dream_error_100": Metric(
        "after 100 steps", "error of dreams after 100 steps", LOWER, _dream_error(100), 1
    ),
    "bias_short": Metric(
        f"dreamed minus real return, {SHORT} steps, %",
        "bias of dreamed returns",
        NEITHER,
        _bias(SHORT),
        1,
    ),
    "bias_long": Metric(
        f"the same, {LONG} steps, %", "bias of long dreamed returns", NEITHER, _bias(LONG), 1
    ),
    "rank": Metric(
        f"rank correlation of dreamed and real returns, {SHORT} steps",
        "rank correlation of dreamed and real returns",
        NEITHER,
        _dreamed("rank_correlation"),
        2,
    ),
    "good_rank": Metric(
        "the same, good agents alone",
        "rank correlation of dreamed and real returns among good agents",
        NEITHER,
        _dreamed("good_rank_correlation"),
        2,
    ),
    "error": Metric("V's squared error", "V's error", LOWER, _at("vision", "error"), 1),
    "foreground_error": Metric(
        "its error on road and car",
        "V's error on road and car",
        LOWER,
        _at("vision", "foreground_error"),
        1,
    ),
    "bits_alone": Metric(
        "bits per frame, alone", "bits per frame, alone", NEITHER, _at("bits", "alone"), 1
    ),
    "bits_persistence": Metric(
        "given the last frame",
        "bits per frame given the last one",
        NEITHER,
        _at("bits", "persistence"),
        1,
    ),
    "bits_memory": Metric(
        "given M's state", "bits per frame given M's state", LOWER, _at("bits", "memory"), 1
    ),
    "reward_r2": Metric(
        "R2 of M's rewards, the run's own driving",
        "R2 of M's rewards",
        NEITHER,
        lambda result: float(result["rounds"][-1]["reward_r2"]),
        2,
    ),
    "drives_reward_r2": Metric(
        "the same, the scripted driver's steady laps",
        "R2 of M's rewards on steady laps",
        NEITHER,
        _at("memory", "reward_r2"),
        2,
    ),
    "same_cell": Metric(
        "variance of its own cell that a code explains, %",
        "variance of its own cell that a code explains, in percent",
        NEITHER,
        _explained("same_cell"),
    ),
    "other_cells": Metric(
        "of another cell, %",
        "variance of another cell that a code explains, in percent",
        NEITHER,
        _explained("other_cells"),
    ),
    "codes_used": Metric(
        "codes used, %", "codes used", NEITHER, _at("vision", "codes_used", scale=100)
    ),
    "perplexity": Metric(
        "perplexity of the codes", "perplexity of the codes", NEITHER, _at("vision", "perplexity")
    ),
    "minutes": Metric("minutes, one core", "minutes", NEITHER, _at("minutes")),
}
