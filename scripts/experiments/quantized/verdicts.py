"""Which figures tell a kind of codes apart from latents, and to whose good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.experiments.quantized.estimates import Estimate, difference
from scripts.experiments.quantized.metrics import METRICS, Metric

BASE, CODES = "vae", ("fsq", "vq")

Results = Mapping[str, list[dict[str, Any]]]


def sorted_by_verdict(
    results: Results, kind: str
) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[str, Estimate]]:
    """Figures in which a kind is better than latents, worse, and not told apart, by name."""
    better: dict[str, Estimate] = {}
    worse: dict[str, Estimate] = {}
    alike: dict[str, Estimate] = {}
    for name, metric in METRICS.items():
        distinguishable = apart_from_latents(metric, results, kind)
        if metric.better is None or distinguishable is None:
            continue
        if not distinguishable.apart_from_zero:
            alike[name] = distinguishable
        elif (distinguishable.value > 0) == (metric.better == "higher"):
            better[name] = distinguishable
        else:
            worse[name] = distinguishable
    return better, worse, alike


def apart_from_latents(metric: Metric, results: Results, kind: str) -> Estimate | None:
    """A kind's mean minus that of latents; None for less than two runs, or one without it."""
    sides = []
    for runs in (results.get(kind, []), results.get(BASE, [])):
        values = metric.values(runs)
        if len(values) < max(2, len(runs)):
            return None
        sides.append(values)
    return difference(*sides)
