"""In which figures a kind of codes differs significantly from latents, and in which direction."""

from dataclasses import dataclass, field

from scripts.experiments.estimates import Estimate
from scripts.experiments.quantized.metrics import METRICS, RunsByKind


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
        found = metric.difference(results, kind)
        if metric.higher_is_better is None or found is None:
            continue
        if not found.significant:
            verdicts.inconclusive[name] = found
        elif (found.value > 0) == metric.higher_is_better:
            verdicts.improved[name] = found
        else:
            verdicts.worsened[name] = found
    return verdicts
