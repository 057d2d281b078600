"""In which figures a kind of codes differs significantly from latents, and in which direction."""

from scripts.experiments.estimates import Estimate
from scripts.experiments.quantized.metrics import METRICS, RunsByKind


def verdicts_on(results: RunsByKind, kind: str) -> dict[str, dict[str, Estimate]]:
    """Differences between a kind of codes and latents, by the verdict and the metric's name.

    Verdicts are `improved`, `worsened` and `inconclusive`. Left out are metrics that have no better
    direction, or not enough runs.
    """
    verdicts: dict[str, dict[str, Estimate]] = {"improved": {}, "worsened": {}, "inconclusive": {}}
    for name, metric in METRICS.items():
        found = metric.difference(results, kind)
        if metric.higher_is_better is None or found is None:
            continue
        better = (found.value > 0) == metric.higher_is_better
        direction = "improved" if better else "worsened"
        verdicts[direction if found.significant else "inconclusive"][name] = found
    return verdicts
