"""Determine in which figures codes differ significantly from latents, and in which direction."""

from scripts.experiments.estimates import Estimate
from scripts.experiments.quantized.metrics import METRICS, RunsByKind


def verdicts_on(results: RunsByKind, kind: str) -> dict[str, dict[str, Estimate]]:
    """Return differences between a kind of codes and latents, by verdict and metric name.

    Verdicts are `improved`, `worsened` and `inconclusive`. Metrics without a
    better direction, or with too few runs, are left out.
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
