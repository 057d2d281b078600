"""Searches for C side by side on one V and M: CMA-ES in the dream and in the real env, gradients.

    python scripts/experiments/search.py --run runs/search

Every call runs the first search whose result is missing in docs/results/search, or with `--all` one
after the other; then it draws docs/search.png and writes docs/search.md from all results that are
there. A search that was stopped resumes. `--seeds` and `--only` choose among the searches.

V and M are those of the agent `carracing`. The first call makes the run: it collects the episodes
that dreams begin at, 96 of exploration and 160 of that agent with noise.

All searches begin from scratch and are treated alike. Each is evaluated twelve times, evenly
spread, on the same 16 monitoring episodes, and leaves the controller that scored best there. That
one is scored on 100 validation episodes, which selected nothing. The length of a search is a count,
never a time, so that a result does not depend on the machine. One process and one thread per
search.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from matplotlib.figure import Figure

from agents.evaluation import evaluate
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from scripts.experiments.borrowed_run import borrowed_run
from scripts.experiments.quantized.estimates import difference, mean_over
from worldmodels.controller.agent import AgentFactory, load_agent, save_agent
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.memory import memory_metadata
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import save_checkpoint, with_prefix
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.provenance import file_digest, versions
from worldmodels.runs.run import WEIGHTS, Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.collect import CollectConfig, collect
from worldmodels.stages.train_controller import (
    PATHWISE,
    ControllerStageConfig,
    train_controller,
)
from worldmodels.vision import vision_metadata

AGENT = "carracing"
EXPLORING, DRIVEN = 96, 160  # episodes that dreams begin at
RESULTS, PICTURE, TABLE = "results/search", "search.png", "search.md"
EVALUATIONS, EVAL_EPISODES, REPORTED_EPISODES = 12, 16, 100
COMPARED_SEEDS = 5  # at least so many on both sides before a difference is claimed


@dataclass(frozen=True)
class Search:
    """One of the searches compared.

    Attributes:
        seeds: how many searches are run; those of one seed take long.
    """

    label: str
    config: ControllerStageConfig
    seeds: int


def _searches() -> dict[str, Search]:
    common = ControllerStageConfig(
        eval_episodes=EVAL_EPISODES, selection_episodes=EVAL_EPISODES, far_from_reward_fraction=0.2
    )
    fit = replace(PATHWISE.fit, validate_every=PATHWISE.fit.num_steps // EVALUATIONS)
    gradient = replace(
        common, search="gradient", dream=True, pathwise=replace(PATHWISE, fit=fit, later=fit)
    )

    def evolved(dream: bool, diagonal: bool, cmaes: CMAESConfig) -> ControllerStageConfig:
        every = cmaes.generations // EVALUATIONS
        cmaes = replace(cmaes, diagonal=diagonal, validate_every=every, select_best=True)
        return replace(common, dream=dream, cmaes=cmaes)

    dream = CMAESConfig(generations=600, episodes=16, horizon=40)
    real = CMAESConfig(generations=120, population=32, episodes=2, horizon=250)
    return {
        "gradient": Search("gradients, 64 tanh units", replace(gradient, hidden=64), 5),
        "gradient-linear": Search("gradients, linear C", gradient, 5),
        "dream-diagonal": Search("CMA-ES in the dream, diagonal", evolved(True, True, dream), 5),
        "dream-full": Search("CMA-ES in the dream, full", evolved(True, False, dream), 5),
        "real-full": Search("CMA-ES in the real env, full", evolved(False, False, real), 1),
    }


SEARCHES = _searches()


def make_run(run: Run) -> None:
    """V, M and C of the agent as if the run had made them, and the episodes dreams begin at."""
    agent = load_agent(AGENT)
    if not (run.folder / "controller" / "manifest.json").exists():
        run.create()
        run.choose_kind(quantized=False)
        work = run.begin("vision", {}, 0, 1)
        if work is not None:
            tensors = with_prefix("vision", agent.vision.state_dict())
            summary: dict[str, Any] = {"vision": vision_metadata(agent.vision)}
            save_checkpoint(work.partial / WEIGHTS["vision"], tensors, summary)
            work.commit({}, 0.0)
        work = run.begin("memory", {}, 0, 1)
        if work is not None:
            digest = file_digest(run.weights("vision"))
            summary = {"memory": memory_metadata(agent.memory), "vision_digest": digest}
            tensors = with_prefix("memory", agent.memory.state_dict())
            save_checkpoint(work.partial / WEIGHTS["memory"], tensors, summary)
            work.commit({}, 0.0)
        work = run.begin("controller", {}, 0, 1)
        if work is not None:
            save_agent(work.partial / WEIGHTS["controller"], agent, agent.metadata)
            work.commit({}, 0.0)
    with Workers(1) as workers:
        for round_, episodes, policy in (
            (1, EXPLORING, "exploring"),
            (2, EXPLORING + DRIVEN, "agent"),
        ):
            config = CollectConfig(episodes=episodes, policy=policy)
            collect(run, config, workers=workers, report=Report(), round_=round_)


def search_result(run: Run, name: str, seed: int) -> dict[str, Any]:
    """Search from scratch; what is written to the result's file."""
    search = SEARCHES[name]
    scratch = borrowed_run(run, run.folder / "searches" / f"{name}-{seed}", seed)
    with Workers(1) as workers:
        result = train_controller(scratch, search.config, workers=workers, report=Report())
        factory = AgentFactory(scratch.weights("controller"))
        protocol = EvaluationProtocol.of(run.settings.env, "validation", REPORTED_EPISODES)
        scores = evaluate(protocol, factory, workers)
    return {
        "label": search.label,
        "dream": search.config.dream,
        "seed": seed,
        "command": f"python scripts/experiments/search.py --only {name} --seeds {seed}",
        "versions": versions(),
        "processor_cores": os.cpu_count(),
        "vision": file_digest(scratch.weights("vision")),
        "memory": file_digest(scratch.weights("memory")),
        "parameters": result["parameters"],
        "score": scores.mean,
        "std": scores.std,
        "interval": list(scores.confidence_interval or ()),
        "episodes": REPORTED_EPISODES,
        "env_steps": {
            "searched": result["env_steps"].get("searched", 0),
            "monitored": result["env_steps"]["monitored"],
            "reported": scores.env_steps,
        },
        "evaluations": [
            {key: round(entry[key], 1) for key in ("seconds", "steps", "real_score")}
            for entry in result["history"]
            if "real_score" in entry
        ],
    }


def draw(path: Path, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Real score against time of search and against env steps, a line per search."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    by_time, by_steps = figure.subplots(1, 2, sharey=True)
    for number, (name, found) in enumerate(results.items()):
        for seed, result in enumerate(found):
            entries = result["evaluations"]
            style: dict[str, Any] = {"color": f"C{number}", "alpha": 0.8}
            scores = [entry["real_score"] for entry in entries]
            by_time.plot(
                [entry["seconds"] / 60 for entry in entries],
                scores,
                label=SEARCHES[name].label if seed == 0 else None,
                **style,
            )
            per_evaluation = result["env_steps"]["monitored"] / len(entries)
            steps = [
                (0 if result["dream"] else entry["steps"]) + per_evaluation * count
                for count, entry in enumerate(entries, start=1)
            ]
            by_steps.plot([count / 1e6 for count in steps], scores, **style)
    by_time.set(
        xscale="log",
        xlabel="minutes of search, one core",
        ylabel=f"mean return, {EVAL_EPISODES} monitoring episodes",
    )
    by_steps.set(xscale="log", xlabel="million env steps, searched and monitored")
    for axes in (by_time, by_steps):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=110)


def page(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The results as a Markdown page."""
    lines = [
        "# Searches for C on one V and M",
        "",
        f"V and M are those of the agent `{AGENT}`. All searches begin from scratch. Each is "
        f"evaluated {EVALUATIONS} times, evenly spread, on the same {EVAL_EPISODES} monitoring "
        "episodes, and leaves the controller that scored best there. That controller is scored on "
        f"{REPORTED_EPISODES} validation episodes of the fast env, which selected nothing. The "
        "table gives the mean over seeds with its 95 % interval; for a search of one seed it gives "
        "the 95 % interval over the episodes, which leaves out how much searches of other seeds "
        "would differ. Steps and minutes are means per search on one core; other work ran on the "
        "machine, so minutes are no measure of speed.",
        "",
        "`python scripts/experiments/search.py --run runs/search --all`",
        "",
        "| search | parameters | seeds | return | minutes | dreamed agent steps | real env steps, "
        "searched | real env steps, monitored |",
        "|" + "---|" * 8,
        *(_row(name, found) for name, found in results.items()),
        "",
        f"V and M were trained on {_data_steps():,} env steps, which all searches share.",
        "",
        *_differences(results),
        "",
        f"![Return against time of search and against env steps]({PICTURE})",
        "",
    ]
    return "\n".join(lines)


def _row(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    scores = [result["score"] for result in found]
    if len(scores) > 1:
        shown = mean_over(scores).text()
    else:
        low, high = found[0]["interval"]
        shown = f"{scores[0]:.0f} ± {(high - low) / 2:.0f} (one seed)"
    ends = [result["evaluations"][-1] for result in found]
    steps = sum(end["steps"] for end in ends) / len(ends) / 1e6
    dreamed, searched = (f"{steps:.1f} M", "0") if found[0]["dream"] else ("0", f"{steps:.1f} M")
    monitored = sum(result["env_steps"]["monitored"] for result in found) / len(found) / 1e6
    cells = [
        SEARCHES[name].label,
        f"{found[0]['parameters']:,}",
        f"{len(found)}",
        shown,
        f"{sum(end['seconds'] for end in ends) / len(ends) / 60:.1f}",
        dreamed,
        searched,
        f"{monitored:.2f} M",
    ]
    return "| " + " | ".join(cells) + " |"


def _differences(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A line per pair of searches that have seeds enough to be told apart."""
    many = {name: found for name, found in results.items() if len(found) >= COMPARED_SEEDS}
    lines = [
        f"Differences between searches with {COMPARED_SEEDS} seeds or more, with 95 % intervals:",
        "",
    ]
    for one, other in combinations(many, 2):
        distinguishable = difference(
            [result["score"] for result in many[one]], [result["score"] for result in many[other]]
        )
        verdict = "" if distinguishable.apart_from_zero else ": not told apart"
        lines.append(
            f"- {SEARCHES[one].label} minus {SEARCHES[other].label}: "
            f"{distinguishable.text()}{verdict}"
        )
    few = [SEARCHES[name].label for name in results if name not in many]
    if few:
        lines += ["", f"Too few seeds to claim a difference: {', '.join(few)}."]
    return lines


def _data_steps() -> int:
    rounds = load_agent(AGENT).metadata["shipped"]["rounds"]
    return int(rounds[-1]["env_steps"] - rounds[-1]["searched"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="folder of the run; not needed to draw again")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where results go (docs)")
    parser.add_argument("--all", action="store_true", help="run all that are missing")
    parser.add_argument("--seeds", type=int, nargs="+", help="run searches of these seeds only")
    parser.add_argument("--only", nargs="+", choices=SEARCHES, help="run these searches only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.docs / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    everything = [(name, seed) for name, each in SEARCHES.items() for seed in range(each.seeds)]
    missing = [
        (name, seed)
        for name, seed in everything
        if not (folder / f"{name}-{seed}.json").exists()
        and (arguments.only is None or name in arguments.only)
        and (arguments.seeds is None or seed in arguments.seeds)
    ]
    if missing and arguments.run is not None:
        run = Run(arguments.run, RunSettings("worldmodels/CarRacing-v3", "cpu", 0))
        make_run(run)
        for name, seed in missing if arguments.all else missing[:1]:
            started = time.monotonic()
            write_json(folder / f"{name}-{seed}.json", search_result(run, name, seed))
            print(f"{name}-{seed}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    results = {
        name: [found for seed in range(each.seeds) if (found := _read(folder, name, seed))]
        for name, each in SEARCHES.items()
    }
    results = {name: found for name, found in results.items() if found}
    if results:
        draw(arguments.docs / PICTURE, results)
        (arguments.docs / TABLE).write_text(page(results))
    done = sum(len(found) for found in results.values())
    print(f"{done} of {len(everything)} searches done")


def _read(folder: Path, name: str, seed: int) -> dict[str, Any] | None:
    result: dict[str, Any] | None = read_json(folder / f"{name}-{seed}.json")
    return result


if __name__ == "__main__":
    main()
