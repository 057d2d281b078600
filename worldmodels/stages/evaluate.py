"""Evaluate the agent and baseline policies on validation or test episodes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agents.evaluation import evaluate
from agents.policy import Policy
from agents.protocol import EvaluationProtocol
from agents.seeds import SEED_RANGES
from agents.workers import Workers
from envs.config import EnvConfig
from envs.tasks import CAR_RACING_IDS, task_for
from worldmodels.controller.agent import AgentFactory, load_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.policies import make_policy
from worldmodels.errors import UserError, check_choice
from worldmodels.plotting import save_bars
from worldmodels.progress import Report
from worldmodels.runs.env_steps import record_env_steps
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of an evaluation, which plays the first `episodes` episodes of a split.

    Attributes:
        stock: whether to evaluate in the slower reference env, in which the reported scores are
            measured.
        perturbation: one of `envs.perturbations.PERTURBATIONS`; None stands for frames without a
            perturbation.
        baselines: whether to evaluate the untrained baseline policies too.
    """

    episodes: int = 100
    split: Literal["validation", "test"] = "validation"
    stock: bool = False
    perturbation: str | None = None
    baselines: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.episodes <= len(SEED_RANGES[self.split]):
            raise UserError(
                f"expected 1 to {len(SEED_RANGES[self.split]):,} episodes, got {self.episodes:,}"
            )
        if self.perturbation is not None:
            from envs.perturbations import PERTURBATIONS  # imports Box2D, only if needed

            check_choice("perturbation", self.perturbation, PERTURBATIONS)

    @property
    def name(self) -> str:
        """Name of the files in which the scores are stored."""
        parts = [self.split, "stock" if self.stock else "fast", self.perturbation, self.episodes]
        return "-".join(str(part) for part in parts if part is not None)


@locks_run
def evaluate_run(
    run: Run, config: EvaluateConfig, *, workers: Workers, report: Report
) -> dict[str, Any]:
    """Evaluate the run's agent, and store the scores in the run.

    The baseline policies are also evaluated if `config.baselines` is True. Scores that are stored
    already are read and not measured again. Baseline policies do not change, so they are evaluated
    only once per run.

    Returns: the same dict as `evaluate_agent`.
    """
    _ = run.settings  # raises the right error where there is no run at all
    return evaluate_agent(run.folder, config, workers=workers, report=report, run=run)


def evaluate_agent(
    place: Path, config: EvaluateConfig, *, workers: Workers, report: Report, run: Run | None = None
) -> dict[str, Any]:
    """Evaluate an agent, and also the baseline policies if `config.baselines` is True.

    Args:
        place: an agent's file, or a run's folder.
        run: run that stores the scores and counts the env steps of the evaluation. If `run` is
            None, nothing is stored.

    Returns: `{"rows": [...]}`, with the agent's row first. Each row holds the content of
    `Scores.to_dict`, the mean, the std and the 95 % interval. For a single episode, the std and the
    interval are None.
    """
    agent = load_agent(place)  # raises its errors before anything is played
    file, env = agent_file(place), agent.spec.env
    protocol = _protocol(place, env, config)
    choices = {"env_kwargs": dict(env.kwargs), "observation_key": env.observation_key}
    rows, played = [], False
    for policy, factory in _factories(file, env, config.baselines).items():
        digest = file_digest(file) if policy == "agent" else "baseline"
        name = f"{config.name}-{policy}"
        kept = run.folder / "evaluation" / f"{name.replace(' ', '-')}.json" if run else None
        row = _read(kept, digest) if kept else None
        if row is None:
            with report.progress(f"evaluate {policy}", total=config.episodes) as meter:
                scores = evaluate(protocol, factory, workers, on_episodes=meter.to)
            interval = scores.confidence_interval
            row = {
                "policy": policy,
                "agent_digest": digest,
                "mean": scores.mean,
                "std": scores.std,
                "interval": interval and list(interval),
                **scores.to_dict(),
            }
            if run and kept:
                work = f"evaluation/{name}/{digest[:16]}"
                record_env_steps(run, work, {"reported": scores.env_steps})
                write_json(kept, row, checksum=True)
                played = True
        rows.append(row)
    if run and played:
        _draw(run.folder / "evaluation" / f"{config.name}.png", rows, config)
    return {
        "env_id": protocol.env_id,
        **{name: value for name, value in choices.items() if value},
        "split": config.split,
        "perturbation": config.perturbation,
        "episodes": config.episodes,
        "rows": rows,
    }


def _protocol(place: Path, env: EnvConfig, config: EvaluateConfig) -> EvaluationProtocol:
    """Return the protocol; raise UserError for a perturbation that the env does not have."""
    task = task_for(env)
    env_id = task.reference_env_id if config.stock else task.env_id
    if config.perturbation is not None and env_id not in CAR_RACING_IDS:
        raise UserError(
            f"perturbations exist only for CarRacing, but {place} is an agent for {env_id}"
        )
    played = replace(env, env_id=env_id)
    return EvaluationProtocol.of(
        played, config.split, config.episodes, perturbation=config.perturbation
    )


def _factories(file: Path, env: EnvConfig, baselines: bool) -> dict[str, Callable[[], Policy]]:
    """Return a dict of functions that make the policies in a worker; the agent comes first."""
    task = task_for(env)
    moving = [] if task.action_map.discrete else ["brownian"]
    names = ["random", *moving, *task.constant_actions] if baselines else []
    made = {name: functools.partial(make_policy, name, env, file) for name in names}
    return {"agent": AgentFactory(file), **made}


def _draw(path: Path, rows: list[dict[str, Any]], config: EvaluateConfig) -> None:
    """Draw one bar per policy, with the 95 % interval of the policy's mean return."""
    changed = f", {config.perturbation}" if config.perturbation else ""
    save_bars(
        path,
        {row["policy"]: (row["mean"], *(row["interval"] or [row["mean"]] * 2)) for row in rows},
        y_label=f"mean return over {config.episodes} {config.split} episodes{changed}, "
        "95 % interval",
    )


def _read(place: Path, digest: str) -> dict[str, Any] | None:
    try:
        row = read_json(place)
    except UserError:  # the file is damaged: the scores are measured anew
        return None
    return row if isinstance(row, dict) and row.get("agent_digest") == digest else None
