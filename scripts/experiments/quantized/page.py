"""Write docs/results.md. All statements about differences follow from 95 % intervals."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.experiments.elite_frames import EliteFrames
from scripts.experiments.estimates import Estimate
from scripts.experiments.experiment import Results, grouped, read_results
from scripts.experiments.markdown import write_page
from scripts.experiments.quantized.figures import FIGURES
from scripts.experiments.quantized.kinds import ABLATIONS, KINDS, RUNS
from scripts.experiments.quantized.metrics import BASE, CODES, METRICS, PERTURBED, RunsByKind
from worldmodels.presets import STUDY
from worldmodels.runs.pretrained import pretrained_agents

FOLDER = "results/quantized"
CODEBOOKS = {"fsq": "a fixed lattice (FSQ)", "vq": "a learned codebook (VQ-VAE)"}


def draw_page(docs: Path) -> None:
    """Draw the plots and write the page from the existing result files."""
    results = read_results(docs / FOLDER, RUNS)
    by_kind: RunsByKind = grouped(results, RUNS)
    ablations = read_results(docs / "results/ablation", ABLATIONS)
    searched = [result["evaluations"][-1]["steps"] for result in ablations.values()]
    sources = EliteFrames().results(docs).values()
    agents = read_results(docs / "results", pretrained_agents())
    write_page(
        docs / "results.md",
        **summary(by_kind),
        agents=[{**agent, "name": name, "steps": _steps(agent)} for name, agent in agents.items()],
        counts=", ".join(f"{len(runs)} of {kind.upper()}" for kind, runs in by_kind.items()),
        pathwise=STUDY.dream_search.pathwise.fit,
        ppo=STUDY.dream_search.ppo.fit,
        uncounted_rounds=_uncounted_rounds(results),
        kinds=[
            {
                "label": metric.label,
                **{kind: metric.cell(runs) for kind, runs in by_kind.items()},
                **{f"{kind}_minus_vae": metric.difference_cell(by_kind, kind) for kind in CODES},
            }
            for metric in METRICS.values()
            if by_kind
        ],
        perturbed=[
            {"label": KINDS[kind].label, **{name: METRICS[name].mean(runs) for name in PERTURBED}}
            for kind, runs in by_kind.items()
        ],
        ablation_steps=f"{max(searched, default=0) / 1e6:.1f}",
        ablations=defaultdict(
            str, {name: "{score:.0f} ± {std:.0f}".format(**row) for name, row in ablations.items()}
        ),
        num_frames=", ".join({f"{row['frames']:,}" for row in sources}),
        frames=list(sources),
        answers=_answers(by_kind),
        folder=FOLDER if by_kind else None,
        galleries="\n\n".join(
            _gallery(name) for name in results if (docs / FOLDER / f"codes-{name}.png").exists()
        ),
    )
    for name, draw in FIGURES.items() if by_kind else ():
        draw(docs / FOLDER / f"{name}.png", by_kind)


def _gallery(name: str) -> str:
    caption = f"{name}: all frames of a row have the same code in the outlined cell"
    return f"![{caption}]({FOLDER}/codes-{name}.png)\n\n*{caption}*"


def summary(results: RunsByKind) -> dict[str, Any]:
    """Return the values for the page's summary, such as the metrics in which codes are better."""
    seeds = {kind: len(runs) for kind, runs in results.items()}
    several = [kind for kind in (BASE, *CODES) if seeds.get(kind, 0) > 1]
    enough = several[:2] == [BASE, CODES[0]]
    counts = ", ".join(f"{count} of {KINDS[kind].label}" for kind, count in seeds.items())
    verdicts = {kind: verdicts_on(results, kind) for kind in several[1:] if enough}
    differences = [found for of_kind in verdicts.values() for found in of_kind.values()]
    inconclusive = [set(of_kind["inconclusive"]) for of_kind in verdicts.values()]
    shared = set.intersection(*inconclusive) if inconclusive else set()
    labels = [metric.label for name, metric in METRICS.items() if name in shared]
    return {
        "too_few_runs": "" if enough else counts or "none",
        "differences": " ".join(
            f"Codes of {CODEBOOKS[kind]} are significantly better than latents in: "
            f"{_listed(verdict['improved'])}. Codes of {CODEBOOKS[kind]} are significantly worse "
            f"than latents in: {_listed(verdict['worsened'])}."
            for kind, verdict in verdicts.items()
        ),
        "with_either": " for either kind of codes:" if len(verdicts) > 1 else ":",
        "inconclusive": ", ".join(labels) or "none",
        "sides": ", ".join(f"{seeds[kind]} of {kind.upper()}" for kind in several),
        "num_tested": sum(map(len, differences)),
    }


def verdicts_on(results: RunsByKind, kind: str) -> dict[str, dict[str, Estimate]]:
    """Return how one kind of codes differs from continuous latents, by verdict and by metric.

    The verdicts are `improved`, `worsened` and `inconclusive`. A metric is left out if neither
    higher nor lower values are better, or if there are too few runs.
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


def _listed(found: Mapping[str, Estimate]) -> str:
    texts = [
        f"{METRICS[name].label} ({estimate.text(METRICS[name].digits)})"
        for name, estimate in found.items()
    ]
    return ", ".join(texts) or "nothing"


def _steps(agent: Mapping[str, Any]) -> str:
    """Format an agent's counted env steps, and an upper bound of its uncounted env steps."""
    episodes = agent.get("uncounted_episodes", 0)
    text = f"{agent['env_steps']:,}"
    return f"{text} and at most {1_000 * episodes:,}" if episodes else text


def _uncounted_rounds(results: Results) -> int | str:
    """Return the number of rounds per run, or "" if all runs counted the steps of evaluations."""
    rounds = [result["rounds"] for result in results.values()]
    counted = all("env_steps_by_purpose" in row for rows in rounds for row in rows)
    return "" if counted else STUDY.rounds


def _answers(results: RunsByKind) -> dict[str, str]:
    """Return one sentence per metric, or none if FSQ's scores cannot be compared with the VAE's."""
    if METRICS["score"].difference(results, CODES[0]) is None:
        return {}
    return {name: metric.answer(results) for name, metric in METRICS.items()}
