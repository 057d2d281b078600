"""Evaluate: held-out episodes of the agent, and of policies that know nothing."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.evaluation import Scores, evaluate
from agents.policy import Policy
from agents.seeds import SEED_RANGES, Split
from agents.workers import Workers
from envs.tasks import Task, task_for
from worldmodels.agent import AgentFactory, load_agent
from worldmodels.errors import UserError
from worldmodels.pictures import save_bars
from worldmodels.report import Report
from worldmodels.run import Run, agent_file, file_digest
from worldmodels.stages.players import make_policy


def evaluate_run(
    run: Run,
    *,
    episodes: int,
    split: Split,
    stock: bool,
    baselines: bool,
    workers: Workers,
    report: Report,
) -> dict[str, Any]:
    """Score the run's agent, and the baselines if asked, over the first episodes of a split.

    Baselines know nothing, so they are scored once for a run and read back afterwards.

    Returns: `{"rows": [...]}`, the agent's first; each row as `Scores.to_dict` beside its mean,
    std and 95 % interval.
    """
    if not 1 <= episodes <= len(SEED_RANGES[split]):
        raise UserError(f"expected 1 episode or more, and seeds for them all, got {episodes}")
    file = agent_file(run.folder)
    load_agent(run.folder)  # refuse before anything is played
    task = task_for(run.settings.env_id)
    env_id = task.stock_id if stock else task.env_id
    factories: dict[str, Callable[[], Policy]] = {"agent": AgentFactory(file)}
    if baselines:
        for name in baseline_names(task):
            factories[name] = functools.partial(make_policy, name, task.env_id, file)
    name = f"{split}-{'stock' if stock else 'fast'}-{episodes}"
    rows, played = [], False
    for policy, factory in factories.items():
        place = f"evaluation/{name}-{policy.replace(' ', '-')}.json"
        digest = file_digest(file) if policy == "agent" else "baseline"
        row = _read(run, place, digest)
        if row is None:
            with report.progress(f"evaluate {policy}", total=episodes) as meter:
                scores = evaluate(env_id, factory, split, episodes, workers, on_episodes=meter.to)
            row = {"policy": policy, "agent_digest": digest, **_figures(scores)}
            run.write_json(place, row)
            played = True
        rows.append(row)
    if played:
        save_bars(
            run.folder / "evaluation" / f"{name}.png",
            {row["policy"]: (row["mean"], *row["interval"]) for row in rows},
            y_label=f"mean return over {episodes} {split} episodes, 95 % interval",
        )
    return {"env_id": env_id, "split": split, "episodes": episodes, "rows": rows}


def baseline_names(task: Task) -> list[str]:
    """Policies that know nothing, for this task."""
    moving = [] if task.action_map.discrete else ["brownian"]
    return ["random", *moving, *task.constant_actions]


def all_evaluations(run: Run) -> dict[str, dict[str, Any]]:
    """Every score file of the run, by name; a score of another agent than today's is left out."""
    file = agent_file(run.folder)
    digest = file_digest(file) if file.is_file() else ""
    found = {}
    for path in sorted((run.folder / "evaluation").glob("*.json")):
        row = run.read_json(f"evaluation/{path.name}")
        if row.get("agent_digest") in (digest, "baseline"):  # other measurements have none
            found[Path(path).stem] = row
    return found


def _read(run: Run, place: str, digest: str) -> dict[str, Any] | None:
    row = run.read_json(place)
    return row if row is not None and row["agent_digest"] == digest else None


def _figures(scores: Scores) -> dict[str, Any]:
    return {
        "mean": scores.mean,
        "std": scores.std,
        "interval": list(scores.confidence_interval),
        **scores.to_dict(),
    }
