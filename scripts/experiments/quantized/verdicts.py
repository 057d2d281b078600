"""In which figures a kind of codes differs significantly from latents, and in which direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.experiments.estimates import Estimate, difference
from scripts.experiments.quantized.metrics import METRICS, Metric

BASE, CODES = "vae", ("fsq", "vq")

RunsByKind = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Verdicts:
    """Differences between a kind of codes and latents, by the metric's name."""

    improved: dict[str, Estimate] = field(default_factory=dict)
    worsened: dict[str, Estimate] = field(default_factory=dict)
    inconclusive: dict[str, Estimate] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many differences were tested."""
        return len(self.improved) + len(self.worsened) + len(self.inconclusive)


def verdicts_on(results: RunsByKind, kind: str) -> Verdicts:
    """Every metric that has a direction and enough runs, by its verdict."""
    verdicts = Verdicts()
    for name, metric in METRICS.items():
        found = difference_to_latents(metric, results, kind)
        if metric.higher_is_better is None or found is None:
            continue
        if not found.significant:
            verdicts.inconclusive[name] = found
        elif (found.value > 0) == metric.higher_is_better:
            verdicts.improved[name] = found
        else:
            verdicts.worsened[name] = found
    return verdicts


def difference_to_latents(metric: Metric, results: RunsByKind, kind: str) -> Estimate | None:
    """A kind's mean minus that of latents; None for fewer than two runs, or one without it."""
    sides = []
    for runs in (results.get(kind, []), results.get(BASE, [])):
        values = metric.values(runs)
        if len(values) < max(2, len(runs)):
            return None
        sides.append(values)
    return difference(*sides)
