"""docs/results.md: what was measured, and what it says, in words that follow the intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.experiments.quantized.estimates import Estimate, mean_over
from scripts.experiments.quantized.kinds import ABLATED_KINDS, ABLATIONS, KINDS
from scripts.experiments.quantized.metrics import METRICS, UNDER, Metric
from scripts.experiments.quantized.peers import INPUTS, PERTURBED
from scripts.experiments.quantized.verdicts import (
    BASE,
    CODES,
    Results,
    apart_from_latents,
    sorted_by_verdict,
)
from worldmodels.controller.gradient import GradientConfig
from worldmodels.presets import STUDY

CODEBOOKS = {"fsq": "a fixed lattice (FSQ)", "vq": "a learned codebook (VQ-VAE)"}

# What each asks of the figures, and which ones answer it.
QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Sequence prediction.": (
        "How far dreams under real actions are from what happened.",
        ("dreamed_20", "dreamed_52", "dreamed_100"),
    ),
    "Does an autoregressive model fit codes better than latents?": (
        "It does if what M leaves open costs fewer bits for pictures at least as good.",
        ("bits_alone", "bits_memory", "error", "foreground_error"),
    ),
    "Search.": (
        "What C makes of it; the table of what C sees has the same search over both.",
        ("score", "agent_steps_to_threshold", "round_std"),
    ),
    "Robustness.": ("Scores under what no run was trained on.", ("color", "bars", "blob")),
    "Do codes name things one can recognise?": (
        "A name tells of its own place and little else; the sheets of frames below show of what.",
        ("own_cell", "other_cells"),
    ),
}


def page(
    results: Results,
    ablations: Mapping[str, dict[str, Any]],
    agents: Mapping[str, dict[str, Any]],
    frames: dict[str, Any] | None,
    figures: Mapping[str, str],
) -> str:
    """The whole page in Markdown.

    Args:
        results: of each kind, a result a seed.
        ablations: by cell.
        agents: facts of the agents that come with the package, by name.
        frames: what V and M make of frames from different sources.
        figures: captions by file, relative to the page.
    """
    parts = [
        "# What a quantized representation brings",
        summary(results),
        _agents(agents),
        _kinds(results),
        _perturbed(results),
        _ablations(ablations),
        _frames(frames),
        _answers(results),
        "\n\n".join(f"![{caption}]({file})\n\n*{caption}*" for file, caption in figures.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(results: Results) -> str:
    """One paragraph: what codes did, what they did not, how sure that is."""
    seeds = {kind: len(runs) for kind, runs in results.items()}
    if not all(seeds.get(kind, 0) > 1 for kind in (BASE, CODES[0])):
        known = ", ".join(f"{count} of {KINDS[kind].label}" for kind, count in seeds.items())
        return f"Too few runs to compare kinds: {known or 'none'}."
    kinds = [kind for kind in CODES if seeds.get(kind, 0) > 1]
    verdicts = {kind: sorted_by_verdict(results, kind) for kind in kinds}
    said = " ".join(
        f"With codes of {CODEBOOKS[kind]}, better: {_listed(better)}; worse: {_listed(worse)}."
        for kind, (better, worse, _) in verdicts.items()
    )
    open_ = [name for name in METRICS if all(name in alike for _, _, alike in verdicts.values())]
    num_compared = sum(len(part) for verdict in verdicts.values() for part in verdict)
    sides = ", ".join(f"{seeds[kind]} of {kind.upper()}" for kind in (BASE, *kinds))
    return (
        "Codes in place of continuous latents, short runs from scratch on as much data. "
        f"{said} Not told apart{' in either' if len(kinds) > 1 else ''}: {_names(open_)}. "
        "Brackets hold the difference, codes minus latents, with its 95 % interval by Student's t "
        f"over runs ({sides}); {num_compared} differences are looked at, so about one in twenty "
        "would "
        "come out apart if nothing were, and with so few seeds only large effects show. A return "
        "has no slope in codes, so C learns another way over them: what concerns driving tells of "
        "codes and of that search together."
    )


def _listed(found: dict[str, Estimate]) -> str:
    texts = [
        f"{METRICS[name].noun} ({estimate.text(METRICS[name].digits)})"
        for name, estimate in found.items()
    ]
    return ", ".join(texts) or "nothing"


def _names(names: list[str]) -> str:
    return ", ".join(METRICS[name].noun for name in names) or "nothing"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _agents(agents: Mapping[str, dict[str, Any]]) -> str:
    if not agents:
        return ""
    rows = [
        [
            f"`{name}`",
            f"`{summary['command']}`",
            f"{summary['minutes']:.1f}",
            _steps(summary),
            f"**{summary['scores']['mean']:.1f} ± {summary['scores']['std']:.1f}**",
            "{:.1f} to {:.1f}".format(*summary["scores"]["interval"]),
        ]
        for name, summary in agents.items()
    ]
    heads = ["agent", "from scratch by", "minutes", "env steps", "mean ± std", "95 % of the mean"]
    return (
        "## The agents that come with the package\n\n"
        "Each trained from nothing on two CPU cores, and scored once in Gymnasium's own "
        "CarRacing-v3 over 100 tracks of the test split, by which nothing was trained or chosen "
        "(`wm evaluate --agent NAME --stock --split test`). Env steps: those collected and those "
        "that CMA-ES searched in, and apart from them those that monitored the searches and "
        "selected the agent. The runs did not count the latter; an episode has at most 1,000 "
        "steps.\n\n" + _table(heads, rows)
    )


def _steps(summary: Mapping[str, Any]) -> str:
    """Env steps of a run; of one that did not count its evaluations, at most how many they had."""
    episodes = summary.get("uncounted_episodes", 0)
    text = f"{summary['env_steps']:,}"
    return f"{text} and at most {1_000 * episodes:,}" if episodes else text


def _kinds(results: Results) -> str:
    present = [kind for kind in KINDS if results.get(kind)]
    if not present:
        return ""
    heads = ["", *(KINDS[kind].label for kind in present)]
    heads += [f"{kind.upper()} minus VAE" for kind in CODES if kind in present]
    rows = []
    for metric in METRICS.values():
        cells = [metric.label]
        for kind in present:
            cells.append(_over_seeds(metric, results[kind]))
        for kind in CODES:
            if kind in present:
                distinguishable = apart_from_latents(metric, results, kind)
                text = "" if distinguishable is None else distinguishable.text(metric.digits)
                cells.append(
                    f"**{text}**" if distinguishable and distinguishable.apart_from_zero else text
                )
        rows.append(cells)
    counts = ", ".join(f"{len(results[kind])} of {kind.upper()}" for kind in present)
    return (
        "## Three kinds side by side\n\n"
        f"Runs: {counts}. Means over seeds ± half of the 95 % interval; differences that leave "
        "zero out in bold. The first "
        "episodes are the same for all kinds, later ones each run drives itself, equally many. V "
        "and M train for the same steps, M with as many units; C has the same hidden ones. C "
        f"learns in the dream, over latents by {_search(STUDY.dream_search.pathwise)} along the "
        f"return's slope, over codes by {_search(STUDY.dream_search.ppo)} of PPO, and ends "
        "with a short CMA-ES in the game. Scores are of the fast env, test tracks. V and M are "
        "judged on drives of a scripted driver, the same for all: squared error summed over a "
        "frame, a dream's that of the mean of 16. Bits are those a receiver with the same models "
        "needs for a frame's latents (of a VAE with bits back). Returns of dream and game are of "
        "noisy copies of each run's own C, so those rows say how far one run's dream is to be "
        "trusted, less which kind's. R2 compares M's rewards with their mean: at zero it "
        "is no better than that. What a code tells of a cell of the picture: the share of the "
        "pixels' variance, on drives it was not fitted to. One process and thread a run, two runs "
        "at a time on two cores.\n\n" + _caveats(results) + _table(heads, rows)
    )


def _caveats(results: Results) -> str:
    """Caveats of runs that did not yet count their steps by purpose."""
    rows = [row for runs in results.values() for run in runs for row in run["rounds"]]
    if all("env_steps_by_purpose" in row for row in rows):
        return ""
    return (
        "These runs differ from today's in two ways. In each of the 8 rounds, C over "
        "latents was the best of 3 evaluations and C over codes the best of 6, so that selection "
        "favored codes. And steps count what was collected and searched, but not the episodes "
        "that evaluated: 44 per round over latents, 68 over codes, and 200 in the fine-tuning, of "
        "at most 250 decisions each. Searches made now evaluate equally often for both kinds and "
        "count every step.\n\n"
    )


def _search(config: GradientConfig) -> str:
    return f"{config.fit.num_steps:,} steps of {config.fit.batch_size} dreams"


def _over_seeds(metric: Metric, runs: list[dict[str, Any]]) -> str:
    """The mean; of those runs that have the figure, and how many, where some have none."""
    values = metric.values(runs)
    if not values:
        return ""
    text = mean_over(values).text(metric.digits)
    return text if len(values) == len(runs) else f"{text} ({len(values)} of {len(runs)} runs)"


def _perturbed(results: Results) -> str:
    present = [kind for kind in KINDS if results.get(kind)]
    if not present:
        return ""
    rows = []
    for kind in present:
        cells = [KINDS[kind].label]
        cells += [mean_over(METRICS[name].values(results[kind])).text() for name in UNDER]
        rows.append(cells)
    rows += [[label, *(str(scores[name]) for name in UNDER)] for label, scores in PERTURBED.items()]
    return (
        "## Changed without training again\n\n"
        "The perturbations of Tang, Nguyen & Ha, whose table 2 has the last two rows "
        "(arXiv 2003.08165; long trainings, stock env). Ours are the short runs above, in the fast "
        "env.\n\n" + _table(["", *UNDER.values()], rows)
    )


def _ablations(ablations: Mapping[str, dict[str, Any]]) -> str:
    if not ablations:
        return ""
    rows = []
    for name, inputs in ABLATIONS.items():
        cells = [inputs.label]
        for kind in ABLATED_KINDS:
            found = [r for r in ablations.values() if (r["kind"], r["ablation"]) == (kind, name)]
            cells.append(f"{found[0]['score']:.0f} ± {found[0]['std']:.0f}" if found else "")
        rows.append([*cells, INPUTS.get(name, "")])
    first = next(iter(ablations.values()))
    return (
        "## What C sees\n\n"
        "A linear C found from zero by CMA-ES in the real game, on V and M of one run of each "
        f"kind: mean ± standard deviation over {first['episodes']} validation tracks, fast env, "
        f"after about {first['evaluations'][-1]['steps'] / 1e6:.1f} million env steps, one search "
        "each, the same for both kinds; beside them the original's (arXiv 1803.10122, table 1).\n\n"
        + _table(["", *(KINDS[kind].label for kind in ABLATED_KINDS), "Ha & Schmidhuber"], rows)
    )


def _frames(frames: dict[str, Any] | None) -> str:
    if frames is None:
        return ""
    rows = [
        [
            row["kind"],
            row["source"],
            f"{row['error']:.1f}",
            f"{row['foreground_error']:.1f}",
            f"{row['open_loop']['predicted'][12]:.0f}, {row['open_loop']['persistence'][12]:.0f}",
        ]
        for row in frames["rows"].values()
    ]
    heads = ["V", "frames of", "error", "on road and car", "dream after 52 steps, frozen"]
    return (
        "## Whose frames V and M learn from\n\n"
        f"As many frames of each source ({frames['settings']['frames']:,}), judged on drives of "
        "the scripted driver; one seed (`python scripts/experiments/elite_frames.py`).\n\n"
        + _table(heads, rows)
    )


def _answers(results: Results) -> str:
    if apart_from_latents(METRICS["score"], results, CODES[0]) is None:
        return ""
    lines = ["## The questions"]
    for question, (meaning, names) in QUESTIONS.items():
        explained = [_told(METRICS[name], results) for name in names]
        lines.append(" ".join(text for text in (f"**{question}**", meaning, *explained) if text))
    return "\n\n".join(lines)


def _told(metric: Metric, results: Results) -> str:
    texts = []
    for kind in CODES:
        values = metric.values(results.get(kind, []))
        if not values:
            continue
        text = f"{kind.upper()} {mean_over(values).text(metric.digits)}"
        distinguishable = apart_from_latents(metric, results, kind)
        if distinguishable is not None:
            theirs = mean_over(metric.values(results[BASE]))
            verdict = "" if distinguishable.apart_from_zero else ", not told apart"
            text += f" against {theirs.text(metric.digits)}{verdict}"
        texts.append(text)
    noun = metric.noun[0].upper() + metric.noun[1:]
    return f"{noun}: {'; '.join(texts)}." if texts else ""
