"""Put a run's best agent into the package, together with its training cost and its scores.

    wm run --preset cpu --seed 22 --run runs/cpu
    python scripts/ship_agent.py --run runs/cpu --name carracing

The script evaluates the agent on 100 test tracks of Gymnasium's own CarRacing, unless the run
already contains this evaluation. The script writes three files. agents/pretrained/NAME.safetensors
contains the weights and their provenance. docs/results/NAME.json contains the cost and the scores.
docs/results/NAME.png shows the run's learning curve.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.workers import Workers
from worldmodels.controller.agent import load_agent, save_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.progress import Report
from worldmodels.runs.json_files import write_json
from worldmodels.runs.learning_curve import PICTURE, LearningCurve
from worldmodels.runs.pretrained import FOLDER
from worldmodels.runs.provenance import file_digest, versions
from worldmodels.runs.run import Run
from worldmodels.stages.evaluate import EvaluateConfig, evaluate_run

HEADLINE = EvaluateConfig(episodes=100, split="test", stock=True)


def main(
    run: Annotated[Path, typer.Option(help="folder of a finished run")],
    name: Annotated[str, typer.Option(help="name: carracing or carracing-quantized")],
    docs: Annotated[Path, typer.Option(help="folder of the documentation")] = Path("docs"),
    workers: Annotated[int, typer.Option(help="number of worker processes")] = 2,
) -> None:
    """Put a run's best agent into the package, together with its training cost and its scores."""
    finished = Run(run)
    summary = run_facts(finished, workers)
    agent = load_agent(finished.folder)
    path = FOLDER / f"{name}.safetensors"
    save_agent(path, agent, {**agent.metadata, "shipped": summary})
    results = docs / "results"
    write_json(results / f"{name}.json", {**summary, "shipped_digest": file_digest(path)})
    shutil.copyfile(finished.folder / PICTURE, results / f"{name}.png")
    scores = summary["scores"]
    print(f"{path}: {scores['mean']:.1f} ± {scores['std']:.1f}, {summary['minutes']:.1f} minutes")


def run_facts(run: Run, num_workers: int) -> dict[str, Any]:
    """Return the settings of the run, its learning curve, and the scores of its best agent."""
    settings = run.settings
    kind = " --quantized" if settings.quantized else ""
    with Workers(num_workers) as workers:
        evaluation = evaluate_run(run, HEADLINE, workers=workers, report=Report())
    rounds = LearningCurve(run).rows
    return {
        "command": f"wm run --preset {settings.preset}{kind} --seed {settings.seed}",
        "seed": settings.seed,
        "workers": num_workers,
        "processor_cores": os.cpu_count(),
        "versions": versions(),
        "minutes": round(rounds[-1]["seconds"] / 60, 1),
        "env_steps": rounds[-1]["env_steps"],
        "agent_digest": file_digest(agent_file(run.folder)),
        "rounds": rounds,
        "env_id": evaluation["env_id"],
        "scores": evaluation["rows"][0],
    }


if __name__ == "__main__":
    typer.run(main)
