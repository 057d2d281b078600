"""docs/results.md: what was measured, in words that follow the intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.experiments import elite_frames as frames
from scripts.experiments.estimates import Estimate, mean_over
from scripts.experiments.experiment import Results, read_results
from scripts.experiments.markdown import markdown_table, write_page
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


def draw_page(docs: Path) -> None:
    """Draw the figures and write the page from the result files that there are."""
    results = read_results(docs / FOLDER, RUNS)
    by_kind: RunsByKind = {
        kind: [result for name, result in results.items() if RUNS[name].kind == kind]
        for kind in KINDS
    }
    by_kind = {kind: runs for kind, runs in by_kind.items() if runs}
    ablations = read_results(docs / ABLATION_FOLDER, ABLATIONS)
    searched = [result["evaluations"][-1]["steps"] for result in ablations.values()]
    sources = read_results(docs / frames.FOLDER, frames.TABLE)
    write_page(
        docs / PAGE,
        summary=summary(by_kind),
        agents_table=_agents(read_results(docs / "results", pretrained_agents())),
        counts=", ".join(f"{len(runs)} of {kind.upper()}" for kind, runs in by_kind.items()),
        pathwise=_search(STUDY.dream_search.pathwise),
        ppo=_search(STUDY.dream_search.ppo),
        caveats=_caveats(by_kind),
        kinds_table=_kinds(by_kind),
        perturbed_table=_perturbed(by_kind),
        ablation_steps=f"{max(searched, default=0) / 1e6:.1f}",
        ablations_table=_ablations(ablations),
        num_frames=", ".join({f"{row['frames']:,}" for row in sources.values()}),
        frames_table=_frames(sources),
        answers_table=_answers(by_kind),
        figures_table=_figures(docs, by_kind, results),
    )


def _figures(docs: Path, by_kind: RunsByKind, names: Iterable[str]) -> str:
    """The figures, drawn, and the galleries of codes that runs left; each with its caption."""
    captions = {}
    for file, (draw, caption) in FIGURES.items() if by_kind else ():
        draw(docs / FOLDER / file, by_kind)
        captions[file] = caption
    for name in names:
        if (docs / FOLDER / f"codes-{name}.png").exists():
            caption = f"{name}: frames that share a code in the framed cell, a row per code"
            captions[f"codes-{name}.png"] = caption
    shown = (f"![{text}]({FOLDER}/{file})\n\n*{text}*" for file, text in captions.items())
    return "\n\n".join(shown)


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
        f"{METRICS[name].label} ({estimate.text(METRICS[name].digits)})"
        for name, estimate in found.items()
    ]
    return ", ".join(texts) or "nothing"


def _nouns(names: Iterable[str]) -> str:
    return ", ".join(METRICS[name].label for name in names) or "none"


def _agents(agents: Results) -> str:
    """From the files written when the agents were shipped."""
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
    return markdown_table(heads, rows)


def _steps(agent: Mapping[str, Any]) -> str:
    """Env steps of a run; of one that did not count its evaluations, at most how many they had."""
    episodes = agent.get("uncounted_episodes", 0)
    text = f"{agent['env_steps']:,}"
    return f"{text} and at most {1_000 * episodes:,}" if episodes else text


def _kinds(results: RunsByKind) -> str:
    """Every metric of every kind, and the differences."""
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
    return markdown_table(heads, rows if results else [])


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


def _perturbed(results: RunsByKind) -> str:
    """Scores under perturbations, beside published ones."""
    rows = []
    for kind, runs in results.items():
        scores = [mean_over(METRICS[name].values(runs)).text() for name in PERTURBED_SCORES]
        rows.append([KINDS[kind].label, *scores])
    for label, published in PERTURBED.items() if results else ():
        rows.append([label, *(str(published[name]) for name in PERTURBED_SCORES)])
    return markdown_table(["", *PERTURBED_SCORES.values()], rows)


def _ablations(ablations: Results) -> str:
    """Scores by what C sees."""
    scores = {
        (result["ablation"], result["kind"]): f"{result['score']:.0f} ± {result['std']:.0f}"
        for result in ablations.values()
    }
    rows = [
        [
            inputs.label,
            *(scores.get((name, kind), "") for kind in ABLATED_KINDS),
            SCORES_BY_INPUTS.get(name, ""),
        ]
        for name, inputs in INPUTS.items()
    ]
    heads = ["", *(KINDS[kind].label for kind in ABLATED_KINDS), "Ha & Schmidhuber"]
    return markdown_table(heads, rows if ablations else [])


def _frames(results: Results) -> str:
    """V and M by the frames that they were trained on."""
    rows = []
    for row in results.values():
        errors = [f"{row['open_loop'][name][12]:.0f}" for name in ("predicted", "persistence")]
        error, foreground = (f"{row[name]:.1f}" for name in ("error", "foreground_error"))
        rows.append([row["kind"], row["source"], error, foreground, ", ".join(errors)])
    heads = ["V", "frames of", "error", "on road and car", "after 52 steps: dream, last frame"]
    return markdown_table(heads, rows)


def _answers(results: RunsByKind) -> str:
    """The questions, each with the figures that answer it."""
    if difference_to_latents(METRICS["score"], results, CODES[0]) is None:
        return ""
    lines = []
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
    label = metric.label[0].upper() + metric.label[1:]
    return f"{label}: {'; '.join(texts)}." if texts else ""
