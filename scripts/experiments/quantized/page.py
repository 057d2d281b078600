"""docs/results.md: what was measured, in words that follow the intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.experiments import elite_frames as frames
from scripts.experiments.estimates import Estimate, mean_over
from scripts.experiments.experiment import Results, read_results
from scripts.experiments.markdown import markdown_table
from scripts.experiments.quantized.figures import FIGURES
from scripts.experiments.quantized.kinds import ABLATED_KINDS, ABLATIONS, INPUTS, KINDS, RUNS
from scripts.experiments.quantized.metrics import METRICS, PERTURBED_SCORES, Metric
from scripts.experiments.quantized.peers import PERTURBED, SCORES_BY_INPUTS
from scripts.experiments.quantized.verdicts import (
    BASE,
    CODES,
    RunsByKind,
    difference_to_latents,
    verdicts_on,
)
from worldmodels.controller.gradient import GradientConfig
from worldmodels.presets import STUDY
from worldmodels.runs.pretrained import pretrained_agents

FOLDER, ABLATION_FOLDER, PAGE = "results/quantized", "results/ablation", "results.md"
CODEBOOKS = {"fsq": "a fixed lattice (FSQ)", "vq": "a learned codebook (VQ-VAE)"}

# What each asks of the figures, and which ones answer it.
QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Sequence prediction.": (
        "How far dreams under real actions are from what happened.",
        ("dream_error_20", "dream_error_52", "dream_error_100"),
    ),
    "Does an autoregressive model fit codes better than latents?": (
        "It does if M needs fewer bits per frame while V's error is no larger.",
        ("bits_alone", "bits_memory", "error", "foreground_error"),
    ),
    "Search.": (
        "How well C drives; the table of what C sees has the same search over both.",
        ("score", "agent_steps_to_threshold", "round_std"),
    ),
    "Robustness.": ("Scores under perturbations.", ("color", "bars", "blob")),
    "Do codes name things one can recognize?": (
        "They do if a code explains its own cell and little else; the galleries of frames below "
        "show what.",
        ("same_cell", "other_cells"),
    ),
}


def write_page(docs: Path) -> None:
    """Draw the figures and write the page from the result files that there are."""
    results = read_results(docs / FOLDER, RUNS)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        of_kind = [result for name, result in results.items() if RUNS[name].kind == kind]
        if of_kind:
            by_kind[kind] = of_kind
    captions = {}
    if by_kind:
        for file, (draw, caption) in FIGURES.items():
            draw(docs / FOLDER / file, by_kind)
            captions[f"{FOLDER}/{file}"] = caption
    for name in results:
        if (docs / FOLDER / f"codes-{name}.png").exists():
            caption = f"{name}: frames that share a code in the framed cell, a row per code"
            captions[f"{FOLDER}/codes-{name}.png"] = caption
    parts = [
        "# What a quantized representation brings",
        summary(by_kind),
        pretrained_section(read_results(docs / "results", pretrained_agents())),
        kinds_section(by_kind),
        perturbed_section(by_kind),
        ablations_section(read_results(docs / ABLATION_FOLDER, ABLATIONS)),
        frames_section(read_results(docs / frames.FOLDER, frames.TABLE)),
        answers_section(by_kind),
        "\n\n".join(f"![{caption}]({file})\n\n*{caption}*" for file, caption in captions.items()),
    ]
    (docs / PAGE).write_text("\n\n".join(part for part in parts if part) + "\n")


def summary(results: RunsByKind) -> str:
    """One paragraph: in what codes are better, in what worse, and how certain that is."""
    seeds = {kind: len(runs) for kind, runs in results.items()}
    if not all(seeds.get(kind, 0) > 1 for kind in (BASE, CODES[0])):
        counts = ", ".join(f"{count} of {KINDS[kind].label}" for kind, count in seeds.items())
        return f"Too few runs to compare kinds: {counts or 'none'}."
    verdicts = {kind: verdicts_on(results, kind) for kind in CODES if seeds.get(kind, 0) > 1}
    differences = " ".join(
        f"With codes of {CODEBOOKS[kind]}, better: {_listed(verdict.improved)}; "
        f"worse: {_listed(verdict.worsened)}."
        for kind, verdict in verdicts.items()
    )
    inconclusive = [
        name for name in METRICS if all(name in each.inconclusive for each in verdicts.values())
    ]
    sides = ", ".join(f"{seeds[kind]} of {kind.upper()}" for kind in (BASE, *verdicts))
    return (
        "Codes in place of continuous latents, short runs from scratch on as much data. "
        f"{differences} No significant difference{' with either' if len(verdicts) > 1 else ''}: "
        f"{_nouns(inconclusive)}. Brackets hold the difference, codes minus latents, with its 95 % "
        f"interval by Student's t over runs ({sides}). "
        f"{sum(verdict.count for verdict in verdicts.values())} differences are tested, so about "
        "one in twenty would be significant by chance, and with so few seeds only large effects "
        "are found. Codes are not differentiable, so C is trained with PPO over codes and by "
        "backpropagation over latents; scores therefore confound the representation with the "
        "optimizer."
    )


def _listed(found: Mapping[str, Estimate]) -> str:
    texts = [
        f"{METRICS[name].noun} ({estimate.text(METRICS[name].digits)})"
        for name, estimate in found.items()
    ]
    return ", ".join(texts) or "nothing"


def _nouns(names: Iterable[str]) -> str:
    return ", ".join(METRICS[name].noun for name in names) or "none"


def pretrained_section(agents: Results) -> str:
    """The agents that come with the package, from the files written when they were shipped."""
    if not agents:
        return ""
    rows = [
        [
            f"`{name}`",
            f"`{agent['command']}`",
            f"{agent['minutes']:.1f}",
            _steps(agent),
            f"**{agent['scores']['mean']:.1f} ± {agent['scores']['std']:.1f}**",
            "{:.1f} to {:.1f}".format(*agent["scores"]["interval"]),
        ]
        for name, agent in agents.items()
    ]
    heads = ["agent", "from scratch by", "minutes", "env steps", "mean ± std", "95 % of the mean"]
    return (
        "## The agents that come with the package\n\n"
        "Each trained from nothing on two CPU cores, and scored once in Gymnasium's own "
        "CarRacing-v3 over 100 tracks of the test split, by which nothing was trained or selected "
        "(`wm evaluate --agent NAME --stock --split test`). Env steps: those collected and those "
        "that CMA-ES searched in, and apart from them those that monitored the searches and "
        "selected the agent. The runs did not count the latter; an episode has at most 1,000 "
        "steps.\n\n" + markdown_table(heads, rows)
    )


def _steps(agent: Mapping[str, Any]) -> str:
    """Env steps of a run; of one that did not count its evaluations, at most how many they had."""
    episodes = agent.get("uncounted_episodes", 0)
    text = f"{agent['env_steps']:,}"
    return f"{text} and at most {1_000 * episodes:,}" if episodes else text


def kinds_section(results: RunsByKind) -> str:
    """Every metric of every kind, and the differences."""
    if not results:
        return ""
    codes = [kind for kind in CODES if kind in results]
    heads = ["", *(KINDS[kind].label for kind in results)]
    heads += [f"{kind.upper()} minus VAE" for kind in codes]
    rows = [
        [
            metric.label,
            *(_over_seeds(metric, runs) for runs in results.values()),
            *(_difference(metric, results, kind) for kind in codes),
        ]
        for metric in METRICS.values()
    ]
    counts = ", ".join(f"{len(runs)} of {kind.upper()}" for kind, runs in results.items())
    return (
        "## Three kinds side by side\n\n"
        f"Runs: {counts}. Means over seeds ± half of the 95 % interval; significant differences "
        "are bold. The first episodes are the same for all kinds; later ones each run drives "
        "itself, equally many. V and M train for the same number of steps, M with as many units; "
        "C has the same hidden units. C is trained in the dream, over latents by "
        f"{_search(STUDY.dream_search.pathwise)} by backpropagation, over codes by "
        f"{_search(STUDY.dream_search.ppo)} of PPO, and is fine-tuned by a short CMA-ES in the "
        "real env. Scores are of the fast env, test tracks. V and M are evaluated on drives of a "
        "scripted driver, the same for all: squared error summed over a frame; the error of dreams "
        "is that of the mean of 16 dreams. Bits are those that a receiver with the same models "
        "needs for a frame's latents (of a VAE with bits back). Dreamed and real returns are those "
        "of noisy copies of each run's own C, so these rows measure one run's dream rather than a "
        "kind. R2 compares M's rewards with their mean: at zero it is no better than that. The "
        "variance that a code explains is measured on drives it was not fitted to. One process and "
        "thread per run, two runs at a time on two cores.\n\n"
        + _caveats(results)
        + markdown_table(heads, rows)
    )


def _caveats(results: RunsByKind) -> str:
    """Caveats of runs that did not yet count their steps by purpose."""
    rows = [row for runs in results.values() for run in runs for row in run["rounds"]]
    if all("env_steps_by_purpose" in row for row in rows):
        return ""
    return (
        "These runs differ from today's in two ways. In each of the 8 rounds, C over "
        "latents was the best of 3 evaluations and C over codes the best of 6, so that selection "
        "favored codes. And steps count what was collected and searched, but not the episodes "
        "that evaluated: 44 per round over latents, 68 over codes, and 200 in the fine-tuning, of "
        "at most 250 agent steps each. Searches made now evaluate equally often for both kinds and "
        "count every step.\n\n"
    )


def _search(config: GradientConfig) -> str:
    return f"{config.fit.num_steps:,} steps of {config.fit.batch_size} dreams"


def _over_seeds(metric: Metric, runs: list[dict[str, Any]]) -> str:
    """The mean over the runs that have the figure, and how many these are if not all."""
    values = metric.values(runs)
    if not values:
        return ""
    text = mean_over(values).text(metric.digits)
    return text if len(values) == len(runs) else f"{text} ({len(values)} of {len(runs)} runs)"


def _difference(metric: Metric, results: RunsByKind, kind: str) -> str:
    """A kind's difference to latents, bold where significant."""
    found = difference_to_latents(metric, results, kind)
    if found is None:
        return ""
    text = found.text(metric.digits)
    return f"**{text}**" if found.significant else text


def perturbed_section(results: RunsByKind) -> str:
    """Scores under perturbations, beside published ones."""
    if not results:
        return ""
    rows = [
        [
            KINDS[kind].label,
            *(mean_over(METRICS[name].values(runs)).text() for name in PERTURBED_SCORES),
        ]
        for kind, runs in results.items()
    ]
    rows += [
        [label, *(str(scores[name]) for name in PERTURBED_SCORES)]
        for label, scores in PERTURBED.items()
    ]
    return (
        "## Perturbed without training again\n\n"
        "The perturbations of Tang, Nguyen & Ha, whose table 2 has the last two rows "
        "(arXiv 2003.08165; long trainings, stock env). Ours are the short runs above, in the fast "
        "env.\n\n" + markdown_table(["", *PERTURBED_SCORES.values()], rows)
    )


def ablations_section(ablations: Results) -> str:
    """Scores by what C sees."""
    if not ablations:
        return ""
    rows = []
    for name, inputs in INPUTS.items():
        cells = [inputs.label]
        for kind in ABLATED_KINDS:
            found = [r for r in ablations.values() if (r["kind"], r["ablation"]) == (kind, name)]
            cells.append(f"{found[0]['score']:.0f} ± {found[0]['std']:.0f}" if found else "")
        rows.append([*cells, SCORES_BY_INPUTS.get(name, "")])
    first = next(iter(ablations.values()))
    heads = ["", *(KINDS[kind].label for kind in ABLATED_KINDS), "Ha & Schmidhuber"]
    return (
        "## What C sees\n\n"
        "A linear C found from zero by CMA-ES in the real env, on V and M of one run of each "
        f"kind: mean ± standard deviation over {first['episodes']} validation tracks, fast env, "
        f"after about {first['evaluations'][-1]['steps'] / 1e6:.1f} million env steps, one search "
        "each, the same for both kinds; beside them the original's (arXiv 1803.10122, table "
        "1).\n\n" + markdown_table(heads, rows)
    )


def frames_section(results: Results) -> str:
    """V and M by the frames that they were trained on."""
    if not results:
        return ""
    rows = []
    for row in results.values():
        errors = [f"{row['open_loop'][name][12]:.0f}" for name in ("predicted", "persistence")]
        error, foreground = (f"{row[name]:.1f}" for name in ("error", "foreground_error"))
        rows.append([row["kind"], row["source"], error, foreground, ", ".join(errors)])
    heads = ["V", "frames of", "error", "on road and car", "after 52 steps: dream, last frame"]
    num_frames = next(iter(results.values()))["frames"]
    return (
        "## Which frames V and M learn from\n\n"
        f"As many frames of each source ({num_frames:,}), evaluated on drives of the scripted "
        "driver; one seed (`python -m scripts.experiments elite-frames`).\n\n"
        + markdown_table(heads, rows)
    )


def answers_section(results: RunsByKind) -> str:
    """The questions, each with the figures that answer it."""
    if difference_to_latents(METRICS["score"], results, CODES[0]) is None:
        return ""
    lines = ["## The questions"]
    for question, (meaning, names) in QUESTIONS.items():
        answers = " ".join(_answer(METRICS[name], results) for name in names)
        lines.append(f"**{question}** {meaning} {answers}".rstrip())
    return "\n\n".join(lines)


def _answer(metric: Metric, results: RunsByKind) -> str:
    texts = []
    for kind in CODES:
        values = metric.values(results.get(kind, []))
        if not values:
            continue
        text = f"{kind.upper()} {mean_over(values).text(metric.digits)}"
        found = difference_to_latents(metric, results, kind)
        if found is not None:
            latents = mean_over(metric.values(results[BASE]))
            verdict = "" if found.significant else ", no significant difference"
            text += f" against {latents.text(metric.digits)}{verdict}"
        texts.append(text)
    noun = metric.noun[0].upper() + metric.noun[1:]
    return f"{noun}: {'; '.join(texts)}." if texts else ""
