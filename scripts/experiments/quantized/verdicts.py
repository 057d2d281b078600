"""Determine in which metrics codes differ significantly from latents, and in which direction."""

from scripts.experiments.estimates import Estimate
from scripts.experiments.quantized.metrics import METRICS, RunsByKind


def verdicts_on(results: RunsByKind, kind: str) -> dict[str, dict[str, Estimate]]:
    """Return the differences between one kind of codes and latents, by verdict and by metric.

    The verdicts are `improved`, `worsened` and `inconclusive`. A metric is left out if neither
    direction is better, or if there are too few runs.
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
