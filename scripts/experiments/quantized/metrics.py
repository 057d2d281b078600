"""The figures by which kinds are compared: each with its name, its direction and its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.experiments.quantized.measures import SCORE_THRESHOLD

LAST_ROUNDS = 4
# Metrics that are scores, by what the env looked like.
UNDER = {"score": "as trained", "color": "colors", "bars": "bars", "blob": "blob"}
SHORT, LONG = 48, 200  # env steps of dreams whose returns are compared


@dataclass(frozen=True)
class Metric:
    """One figure of a run's result file.

    Attributes:
        label: as the table has it.
        noun: as a sentence has it.
        better: "higher" or "lower"; None where neither is.
        of: the figure, None where the run has none.
        digits: shown behind the point.
    """

    label: str
    noun: str
    better: str | None
    of: Callable[[dict[str, Any]], float | None]
    digits: int = 0

    def values(self, results: list[dict[str, Any]]) -> list[float]:
        """Of the runs that have one."""
        found = (self.of(result) for result in results)
        return [float(value) for value in found if value is not None]


def _score(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda result: result["scores"][name]["mean"]


def _dreamed(step: int) -> Callable[[dict[str, Any]], float]:
    def error(result: dict[str, Any]) -> float:
        curves = result["open_loop"]
        value: float = curves["predicted"][step // curves["action_repeat"] - 1]
        return value

    return error


def _horizon(result: dict[str, Any], steps: int) -> dict[str, Any]:
    value: dict[str, Any] = result["dream"]["horizons"][str(steps)]
    return value


def _bias(steps: int) -> Callable[[dict[str, Any]], float]:
    def share(result: dict[str, Any]) -> float:
        figures = _horizon(result, steps)
        value: float = 100.0 * figures["dreamed"]["bias"] / figures["real_mean"]
        return value

    return share


def _rank(steps: int, which: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: _horizon(result, steps)["dreamed"][which]


def _round_std(result: dict[str, Any]) -> float:
    gradient = [row["score"] for row in result["rounds"] if row["search"] == "gradient"]
    return float(np.std(gradient[-LAST_ROUNDS:]))


METRICS = {
    "score": Metric("score, 100 test tracks", "score", "higher", _score("none")),
    "agent_steps_to_threshold": Metric(
        f"real agent steps until {SCORE_THRESHOLD}",
        f"agent steps to a score of {SCORE_THRESHOLD}",
        "lower",
        lambda result: result["agent_steps_to_threshold"],
    ),
    "round_std": Metric(
        f"spread of the last {LAST_ROUNDS} rounds in the dream",
        "spread between rounds",
        "lower",
        _round_std,
    ),
    "color": Metric("score, other colors", "score under other colors", "higher", _score("color")),
    "bars": Metric("score, black bars", "score behind bars", "higher", _score("bars")),
    "blob": Metric("score, red blob", "score beside a blob", "higher", _score("blob")),
    "dreamed_20": Metric(
        "dream's error after 20 steps", "error of dreams after 20 steps", "lower", _dreamed(20), 1
    ),
    "dreamed_52": Metric(
        "after 52 steps", "error of dreams after 52 steps", "lower", _dreamed(52), 1
    ),
    "dreamed_100": Metric(
        "after 100 steps", "error of dreams after 100 steps", "lower", _dreamed(100), 1
    ),
    "bias_short": Metric(
        f"dream's return minus the game's, {SHORT} steps, %",
        "what dreams promise too much",
        None,
        _bias(SHORT),
        1,
    ),
    "bias_long": Metric(
        f"the same, {LONG} steps, %", "what long dreams promise too much", None, _bias(LONG), 1
    ),
    "rank": Metric(
        f"rank correlation of dream and game, {SHORT} steps",
        "rank correlation of dream and game",
        None,
        _rank(SHORT, "rank_correlation"),
        2,
    ),
    "good_rank": Metric(
        "the same, good agents alone",
        "rank correlation of dream and game among good agents",
        None,
        _rank(SHORT, "good_rank_correlation"),
        2,
    ),
    "error": Metric(
        "V's squared error", "error of V's pictures", "lower", lambda r: r["vision"]["error"], 1
    ),
    "foreground_error": Metric(
        "its error on road and car",
        "error of V's road and car",
        "lower",
        lambda r: r["vision"]["foreground_error"],
        1,
    ),
    "bits_alone": Metric(
        "bits per frame, alone", "bits of a frame by itself", None, lambda r: r["bits"]["alone"], 1
    ),
    "bits_persistence": Metric(
        "after the frame before",
        "bits after the last frame",
        None,
        lambda r: r["bits"]["persistence"],
        1,
    ),
    "bits_memory": Metric(
        "after what M has seen",
        "bits that M leaves open",
        "lower",
        lambda r: r["bits"]["memory"],
        1,
    ),
    "reward_r2": Metric(
        "reward R2 of M, the run's own driving",
        "share of the reward M explains",
        None,
        lambda r: r["rounds"][-1]["reward_r2"],
        2,
    ),
    "drives_reward_r2": Metric(
        "the same, the scripted driver's steady laps",
        "share of the reward M explains on steady laps",
        None,
        lambda r: r["memory"]["reward_r2"],
        2,
    ),
    "own_cell": Metric(
        "a code tells of its own cell, %",
        "what a code tells of its own cell",
        None,
        lambda r: None if "codes" not in r else 100 * r["codes"]["own_cell"],
    ),
    "other_cells": Metric(
        "of another cell, %",
        "what a code tells of another cell",
        None,
        lambda r: None if "codes" not in r else 100 * r["codes"]["other_cells"],
    ),
    "codes_used": Metric(
        "codes used, %",
        "codes used",
        None,
        lambda r: None if "codes_used" not in r["vision"] else 100 * r["vision"]["codes_used"],
    ),
    "perplexity": Metric(
        "perplexity of the codes",
        "perplexity of the codes",
        None,
        lambda r: r["vision"].get("perplexity"),
    ),
    "minutes": Metric("minutes, one core", "minutes", None, lambda r: r["minutes"]),
}
