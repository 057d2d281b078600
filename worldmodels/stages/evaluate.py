"""Evaluate: held-out episodes of the agent, and of policies that know nothing."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agents.evaluation import Scores, evaluate
from agents.policy import Policy
from agents.protocol import EvaluationProtocol
from agents.seeds import SEED_RANGES
from agents.workers import Workers
from envs.config import EnvConfig
from envs.tasks import CAR_RACING_IDS, Task, task_for
from worldmodels.controller.agent import AgentFactory, load_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.policies import make_policy
from worldmodels.errors import UserError
from worldmodels.plotting import save_bars
from worldmodels.progress import Report
from worldmodels.runs.env_steps import record_env_steps
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run


@dataclass(frozen=True)
class EvaluateConfig:
    """How an agent is scored: over the first `episodes` of a split.

    Attributes:
        stock: in the env's own drawing, slow, as headline scores are.
        perturbation: one of `envs.perturbations.PERTURBATIONS`; None changes nothing.
        baselines: policies that know nothing beside the agent.
    """

    episodes: int = 100
    split: Literal["validation", "test"] = "validation"
    stock: bool = False
    perturbation: str | None = None
    baselines: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.episodes <= len(SEED_RANGES[self.split]):
            raise UserError(
                f"expected 1 episode or more, and seeds for them all, got {self.episodes}"
            )
        if self.perturbation is not None:
            from envs.perturbations import PERTURBATIONS  # Box2D, only where it is needed

            if self.perturbation not in PERTURBATIONS:
                known = ", ".join(PERTURBATIONS)
                raise UserError(f'expected a perturbation among {known}, got "{self.perturbation}"')

    @property
    def name(self) -> str:
        """Of the files that the scores are kept in."""
        parts = [self.split, "stock" if self.stock else "fast", self.perturbation, self.episodes]
        return "-".join(str(part) for part in parts if part is not None)


@locks_run
def evaluate_run(
    run: Run, config: EvaluateConfig, *, workers: Workers, report: Report
) -> dict[str, Any]:
    """Score the run's agent, and the baselines if asked, and keep the scores in its folder.

    What was scored before is read back: baselines know nothing, so once a run is enough for them.

    Returns: as `evaluate_agent`.
    """
    _ = run.settings  # where there is no run at all, that is what to say
    return evaluate_agent(run.folder, config, workers=workers, report=report, run=run)


def evaluate_agent(
    place: Path,
    config: EvaluateConfig,
    *,
    workers: Workers,
    report: Report,
    run: Run | None = None,
) -> dict[str, Any]:
    """Score an agent, and the baselines if asked.

    Args:
        place: an agent's file, or a run's folder.
        run: in whose folder scores are kept and read back, and whose env steps are counted;
            None keeps none.

    Returns: `{"rows": [...]}`, the agent's first; each row as `Scores.to_dict` beside its mean,
    std and 95 % interval, None for a single episode.
    """
    agent = load_agent(place)  # refuse before anything is played
    file = agent_file(place)
    env = agent.spec.env
    task = task_for(env)
    env_id = task.reference_env_id if config.stock else task.env_id
    if config.perturbation is not None and env_id not in CAR_RACING_IDS:
        raise UserError(f"perturbations are CarRacing's, {place} is an agent for {env_id}")
    factories: dict[str, Callable[[], Policy]] = {"agent": AgentFactory(file)}
    if config.baselines:
        for name in baseline_names(task):
            factories[name] = functools.partial(make_policy, name, env, file)
    folder = run.folder / "evaluation" if run else None
    protocol = EvaluationProtocol.of(
        replace(env, env_id=env_id),
        config.split,
        config.episodes,
        perturbation=config.perturbation,
    )
    rows, played = [], False
    for policy, factory in factories.items():
        kept = folder and folder / f"{config.name}-{policy.replace(' ', '-')}.json"
        digest = file_digest(file) if policy == "agent" else "baseline"
        row = _read(kept, digest) if kept else None
        if row is None:
            with report.progress(f"evaluate {policy}", total=config.episodes) as meter:
                scores = evaluate(protocol, factory, workers, on_episodes=meter.to)
            if run:
                work = f"evaluation/{config.name}-{policy}/{digest[:16]}"
                record_env_steps(run, work, {"reported": scores.env_steps})
            row = {"policy": policy, "agent_digest": digest, **_figures(scores)}
            if kept:
                write_json(kept, row, checksum=True)
            played = True
        rows.append(row)
    if played and folder:
        changed = f", {config.perturbation}" if config.perturbation else ""
        save_bars(
            folder / f"{config.name}.png",
            {row["policy"]: (row["mean"], *(row["interval"] or [row["mean"]] * 2)) for row in rows},
            y_label=f"mean return over {config.episodes} {config.split} episodes{changed}, "
            "95 % interval",
        )
    return {
        "env_id": env_id,
        **_choices_of(env),
        "split": config.split,
        "perturbation": config.perturbation,
        "episodes": config.episodes,
        "rows": rows,
    }


def _choices_of(env: EnvConfig) -> dict[str, Any]:
    """What was chosen about the env beside its id, if anything."""
    summary = {"env_kwargs": dict(env.kwargs), "observation_key": env.observation_key}
    return {name: value for name, value in summary.items() if value}


def baseline_names(task: Task) -> list[str]:
    """Policies that know nothing, for this task."""
    moving = [] if task.action_map.discrete else ["brownian"]
    return ["random", *moving, *task.constant_actions]


def _read(place: Path, digest: str) -> dict[str, Any] | None:
    try:
        row = read_json(place)
    except UserError:  # damaged: it is measured and written anew
        return None
    return row if isinstance(row, dict) and row.get("agent_digest") == digest else None


def _figures(scores: Scores) -> dict[str, Any]:
    interval = scores.confidence_interval
    return {
        "mean": scores.mean,
        "std": scores.std,
        "interval": None if interval is None else list(interval),
        **scores.to_dict(),
    }
