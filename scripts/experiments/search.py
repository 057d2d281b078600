"""Compare searches for C: gradients in the dream, CMA-ES in the dream, CMA-ES in the real env.

V and M are those of the agent `carracing`. The first call of the experiment collects the episodes
from which the start states of dreams are taken: 96 episodes of the exploring policy, and 160
episodes of the agent `carracing` with noise.

All searches begin from scratch. During each search, the controller is evaluated twelve times, at
equal intervals, on the same 16 monitoring episodes. The search returns the controller with the best
score on these episodes. The returned controller is scored on 100 validation episodes. These
validation episodes are not used for any selection. The length of a search is a number of steps and
not a time, so that a result does not depend on the speed of the machine. Each search uses one
process and one thread. If a search was stopped, the next call resumes the search. The experiment
writes docs/search.md.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation import evaluate
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from scripts.experiments.estimates import difference, mean_over
from scripts.experiments.experiment import Context, Experiment, Result, Results, grouped
from scripts.experiments.figures import columns, plot_runs, saved_axes
from scripts.experiments.forked_run import fork_run
from scripts.experiments.markdown import write_page
from scripts.experiments.quantized.ablation import evaluations_in
from worldmodels.controller.agent import AgentFactory, load_agent, save_agent
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.memory import memory_metadata
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import save_checkpoint, with_prefix
from worldmodels.runs.json_files import read_json
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import WEIGHTS, Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.collect import CollectConfig, collect
from worldmodels.stages.train_controller import PATHWISE, ControllerStageConfig, train_controller
from worldmodels.vision import vision_metadata

AGENT = "carracing"
EXPLORING, DRIVEN = 96, 160  # episodes in which dreams begin
EVALUATIONS, EVAL_EPISODES, REPORTED_EPISODES = 12, 16, 100
COMPARED_SEEDS = 5  # seeds per search that a claimed difference needs


@dataclass(frozen=True)
class Search:
    """One of the compared searches.

    Attributes:
        seeds: number of seeds. The slowest search has only one seed.
    """

    label: str
    config: ControllerStageConfig
    seeds: int


_COMMON = ControllerStageConfig(
    eval_episodes=EVAL_EPISODES, selection_episodes=EVAL_EPISODES, far_from_reward_fraction=0.2
)
_FIT = replace(PATHWISE.fit, validate_every=PATHWISE.fit.num_steps // EVALUATIONS)
_PATHWISE = replace(PATHWISE, fit=_FIT, later=_FIT)
_GRADIENT = replace(_COMMON, search="gradient", dream=True, pathwise=_PATHWISE)


def _evolved(dream: bool, generations: int, **settings: Any) -> ControllerStageConfig:
    every = generations // EVALUATIONS
    cmaes = CMAESConfig(generations, validate_every=every, select_best=True, **settings)
    return replace(_COMMON, dream=dream, cmaes=cmaes)


_DREAM = partial(_evolved, True, 600, episodes=16, horizon=40)
_REAL = partial(_evolved, False, 120, population=32, episodes=2, horizon=250)
SEARCHES = {
    "gradient": Search("gradients, 64 tanh units", replace(_GRADIENT, hidden=64), 5),
    "gradient-linear": Search("gradients, linear C", _GRADIENT, 5),
    "dream-diagonal": Search("CMA-ES in the dream, diagonal", _DREAM(covariance="diagonal"), 5),
    "dream-full": Search("CMA-ES in the dream, full", _DREAM(covariance="full"), 5),
    "real-full": Search("CMA-ES in the real env, full", _REAL(covariance="full"), 1),
}
TABLE = {
    f"{name}-{seed}": (name, seed) for name, each in SEARCHES.items() for seed in range(each.seeds)
}


@dataclass(frozen=True)
class Searches(Experiment):
    """Compare searches for C, most of them over several seeds."""

    name = "search"
    table = TABLE

    def run(self, name: str, spec: tuple[str, int], context: Context) -> Result:
        """Run one search from scratch and score its controller."""
        search, seed = SEARCHES[spec[0]], spec[1]
        run = Run(context.runs, RunSettings("worldmodels/CarRacing-v3", "cpu", 0))
        with Workers(1) as workers:
            make_run(run, workers, context.report)
            fork = fork_run(run, run.folder / "searches" / name, seed=seed)
            result = train_controller(fork, search.config, workers=workers, report=context.report)
            protocol = EvaluationProtocol.of(run.settings.env, "validation", REPORTED_EPISODES)
            scores = evaluate(protocol, AgentFactory(fork.weights("controller")), workers)
        return {
            "workers": 1,
            "label": search.label,
            "dream": search.config.dream,
            "seed": seed,
            **{stage: file_digest(fork.weights(stage)) for stage in ("vision", "memory")},
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
            "evaluations": evaluations_in(result),
        }

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page and draw its plot."""
        by_search = grouped(results, self.table)
        draw_curves(docs / "search.png", by_search)
        shipped = read_json(docs / f"results/{AGENT}.json")
        last = {"env_steps": 0, "searched": 0} if shipped is None else shipped["rounds"][-1]
        write_page(
            docs / "search.md",
            agent=AGENT,
            evaluations=EVALUATIONS,
            eval_episodes=EVAL_EPISODES,
            reported_episodes=REPORTED_EPISODES,
            searches=[_summary(found) for found in by_search.values()],
            data_steps=last["env_steps"] - last["searched"],
            compared_seeds=COMPARED_SEEDS,
            differences=_differences(by_search),
        )


def make_run(run: Run, workers: Workers, report: Report) -> None:
    """Write V, M and C of the agent as stages of the run; collect episodes for start states."""
    agent = load_agent(AGENT)
    if not run.has("controller"):
        run.create()
        run.choose_kind(quantized=False)
        vision = with_prefix("vision", agent.vision.state_dict())
        memory = with_prefix("memory", agent.memory.state_dict())
        of_vision = {"vision": vision_metadata(agent.vision)}
        write_stage(run, "vision", save_checkpoint, vision, of_vision)
        digest = file_digest(run.weights("vision"))
        of_memory = {"memory": memory_metadata(agent.memory), "vision_digest": digest}
        write_stage(run, "memory", save_checkpoint, memory, of_memory)
        write_stage(run, "controller", save_agent, agent, agent.metadata)
    rounds = ((EXPLORING, "exploring"), (EXPLORING + DRIVEN, "agent"))
    for round_, (episodes, policy) in enumerate(rounds, start=1):
        config = CollectConfig(episodes=episodes, policy=policy)
        collect(run, config, workers=workers, report=report, round_=round_)


def write_stage(run: Run, stage: str, save: Callable[..., None], *content: Any) -> None:
    """Write a stage of the run, unless the stage exists. The function `save` writes the weights."""
    work = run.begin(stage, {}, 0, 1)
    if work is not None:
        save(work.partial / WEIGHTS[stage], *content)
        work.commit({}, 0.0)


def draw_curves(path: Path, results: Mapping[str, Sequence[Result]]) -> None:
    """Plot the real score against search time and against env steps, with one line per run."""
    with saved_axes(path, (11, 4.5), {"ncols": 3}, ncols=2, sharey=True) as (by_time, by_steps):
        for number, (name, found) in enumerate(results.items()):
            label, style = SEARCHES[name].label, {"color": f"C{number}", "alpha": 0.8}
            curves = [_curve(result) for result in found]
            plot_runs(by_time, [(minutes, scores) for minutes, _, scores in curves], label, **style)
            plot_runs(by_steps, [(steps, scores) for _, steps, scores in curves], label, **style)
        y_label = f"mean return, {EVAL_EPISODES} monitoring episodes"
        by_time.set(xscale="log", xlabel="minutes of search, one core", ylabel=y_label)
        by_steps.set(xscale="log", xlabel="million env steps, searched and monitored")


def _curve(result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the minutes, the millions of real env steps, and the scores of all evaluations."""
    seconds, steps, scores = columns(result["evaluations"], "seconds", "steps", "real_score")
    searched = 0 if result["dream"] else steps
    monitored = result["env_steps"]["monitored"] * np.arange(1, len(steps) + 1) / len(steps)
    return seconds / 60, (searched + monitored) / 1e6, scores


def _summary(found: Sequence[Result]) -> Result:
    """Return one search's row of the table, with means over the seeds of the search."""
    first, scores = found[0], [result["score"] for result in found]
    if len(scores) > 1:
        scored = mean_over(scores).text()
    else:
        low, high = first["interval"]
        scored = f"{scores[0]:.0f} ± {(high - low) / 2:.0f} (one seed)"
    ends = [result["evaluations"][-1] for result in found]
    seconds, mean_steps = columns(ends, "seconds", "steps").mean(1)
    steps = f"{mean_steps / 1e6:.1f} M"
    return {
        "label": first["label"],
        "parameters": first["parameters"],
        "seeds": len(found),
        "scored": scored,
        "minutes": seconds / 60,
        "dreamed": steps if first["dream"] else "0",
        "searched": "0" if first["dream"] else steps,
        "monitored": np.mean([result["env_steps"]["monitored"] for result in found]) / 1e6,
    }


def _differences(results: Mapping[str, Sequence[Result]]) -> str:
    """Return one line per pair of searches that have enough seeds to claim a difference."""
    scores = {
        SEARCHES[name].label: [result["score"] for result in found]
        for name, found in results.items()
    }
    many = [name for name, of_seeds in scores.items() if len(of_seeds) >= COMPARED_SEEDS]
    lines = []
    for one, other in itertools.combinations(many, 2):
        found = difference(scores[one], scores[other])
        verdict = "" if found.significant else ": not significant"
        lines.append(f'- "{one}" minus "{other}": {found.text()}{verdict}')
    few = [f'"{name}"' for name in scores if name not in many]
    if few:
        lines += ["", f"These searches have too few seeds for such a comparison: {', '.join(few)}."]
    return "\n".join(lines)
