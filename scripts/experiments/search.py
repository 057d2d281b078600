"""Searches for C side by side on one V and M: CMA-ES in the dream and in the real env, gradients.

V and M are those of the agent `carracing`. The first call makes the run: it collects the episodes
that dreams begin at, 96 of exploration and 160 of that agent with noise.

All searches begin from scratch and are treated alike. Each is evaluated twelve times, evenly
spread, on the same 16 monitoring episodes, and leaves the controller that scored best there. That
one is scored on 100 validation episodes, which selected nothing. The length of a search is a count,
never a time, so that a result does not depend on the machine. One process and one thread per
search; a search that was stopped resumes. Draws docs/search.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from agents.evaluation import evaluate
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from scripts.experiments.estimates import difference, mean_over
from scripts.experiments.experiment import (
    Context,
    Experiment,
    Result,
    Results,
    read_results,
)
from scripts.experiments.forked_run import fork_run
from scripts.experiments.markdown import markdown_table, write_page
from scripts.experiments.quantized.ablation import evaluations_in
from worldmodels.controller.agent import AgentFactory, load_agent, save_agent
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.memory import memory_metadata
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import save_checkpoint, with_prefix
from worldmodels.runs.provenance import file_digest
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
TABLE = {
    f"{name}-{seed}": (name, seed) for name, each in SEARCHES.items() for seed in range(each.seeds)
}


@dataclass(frozen=True)
class Searches(Experiment[tuple[str, int]]):
    """Searches for C over seeds."""

    name = "search"
    folder = "results/search"
    table = TABLE

    def run(self, name: str, spec: tuple[str, int], context: Context) -> Result:
        """One search from scratch, scored."""
        search, seed = SEARCHES[spec[0]], spec[1]
        run = Run(context.runs, RunSettings("worldmodels/CarRacing-v3", "cpu", 0))
        with Workers(1) as workers:
            make_run(run, workers, context.report)
            fork = fork_run(run, run.folder / "searches" / name, seed=seed)
            result = train_controller(fork, search.config, workers=workers, report=context.report)
            protocol = EvaluationProtocol.of(run.settings.env, "validation", REPORTED_EPISODES)
            scores = evaluate(protocol, AgentFactory(fork.weights("controller")), workers)
        interval = scores.confidence_interval
        return {
            "workers": 1,
            "label": search.label,
            "dream": search.config.dream,
            "seed": seed,
            "vision": file_digest(fork.weights("vision")),
            "memory": file_digest(fork.weights("memory")),
            "parameters": result["parameters"],
            "score": scores.mean,
            "std": scores.std,
            "interval": None if interval is None else list(interval),
            "episodes": REPORTED_EPISODES,
            "env_steps": {
                "searched": result["env_steps"].get("searched", 0),
                "monitored": result["env_steps"]["monitored"],
                "reported": scores.env_steps,
            },
            "evaluations": evaluations_in(result),
        }

    def draw(self, results: Results, docs: Path) -> None:
        """The page and its figure."""
        by_search = grouped(results)
        draw_curves(docs / "search.png", by_search)
        shipped = read_results(docs / "results", [AGENT]).get(AGENT)
        last = {"env_steps": 0, "searched": 0} if shipped is None else shipped["rounds"][-1]
        write_page(
            docs / "search.md",
            agent=AGENT,
            evaluations=EVALUATIONS,
            eval_episodes=EVAL_EPISODES,
            reported_episodes=REPORTED_EPISODES,
            searches_table=markdown_table(HEADS, itertools.starmap(_row, by_search.items())),
            data_steps=last["env_steps"] - last["searched"],
            compared_seeds=COMPARED_SEEDS,
            differences=_differences(by_search),
        )


def make_run(run: Run, workers: Workers, report: Report) -> None:
    """V, M and C of the agent as if the run had made them, and the episodes dreams begin at."""
    agent = load_agent(AGENT)
    if not run.has("controller"):
        run.create()
        run.choose_kind(quantized=False)
        weights = with_prefix("vision", agent.vision.state_dict())
        write_stage(run, "vision", weights, {"vision": vision_metadata(agent.vision)})
        write_stage(
            run,
            "memory",
            with_prefix("memory", agent.memory.state_dict()),
            {
                "memory": memory_metadata(agent.memory),
                "vision_digest": file_digest(run.weights("vision")),
            },
        )
        work = run.begin("controller", {}, 0, 1)
        if work is not None:
            save_agent(work.partial / WEIGHTS["controller"], agent, agent.metadata)
            work.commit({}, 0.0)
    rounds = ((EXPLORING, "exploring"), (EXPLORING + DRIVEN, "agent"))
    for round_, (episodes, policy) in enumerate(rounds, start=1):
        config = CollectConfig(episodes=episodes, policy=policy)
        collect(run, config, workers=workers, report=report, round_=round_)


def write_stage(run: Run, stage: str, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """A stage of the run with these weights, unless it is there."""
    work = run.begin(stage, {}, 0, 1)
    if work is not None:
        save_checkpoint(work.partial / WEIGHTS[stage], tensors, metadata)
        work.commit({}, 0.0)


def grouped(results: Results) -> dict[str, list[Result]]:
    """Results of each search that has any, a result per seed."""
    found: dict[str, list[Result]] = {}
    for name, result in results.items():
        found.setdefault(TABLE[name][0], []).append(result)
    return {name: found[name] for name in SEARCHES if name in found}


def draw_curves(path: Path, results: Mapping[str, Sequence[Result]]) -> None:
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


HEADS = ["search", "parameters", "seeds", "return", "minutes", "dreamed agent steps"]
HEADS += ["real env steps, searched", "real env steps, monitored"]


def _row(name: str, found: Sequence[Result]) -> list[str]:
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
    return [
        SEARCHES[name].label,
        f"{found[0]['parameters']:,}",
        f"{len(found)}",
        shown,
        f"{sum(end['seconds'] for end in ends) / len(ends) / 60:.1f}",
        dreamed,
        searched,
        f"{monitored:.2f} M",
    ]


def _differences(results: Mapping[str, Sequence[Result]]) -> str:
    """A line per pair of searches that have enough seeds to claim a difference."""
    many = {name: found for name, found in results.items() if len(found) >= COMPARED_SEEDS}
    lines = []
    for one, other in itertools.combinations(many, 2):
        found = difference(*([result["score"] for result in many[name]] for name in (one, other)))
        verdict = "" if found.significant else ": not significant"
        pair = f"{SEARCHES[one].label} minus {SEARCHES[other].label}"
        lines.append(f"- {pair}: {found.text()}{verdict}")
    few = [SEARCHES[name].label for name in results if name not in many]
    if few:
        lines += ["", f"Too few seeds to claim a difference: {', '.join(few)}."]
    return "\n".join(lines)
