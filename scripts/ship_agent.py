"""Put a run's best agent into the package, beside what it took and what it scores.

    wm run --preset cpu --seed 22 --run runs/cpu
    python scripts/ship_agent.py --run runs/cpu --name carracing

Scores it over 100 test tracks in the stock env, unless that is done, and writes
agents/pretrained/NAME.safetensors, docs/results/NAME.json and docs/results/NAME.png: weights with
their provenance, the figures, the run's learning curve.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--name", required=True, help="carracing, carracing-quantized")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where figures go (docs)")
    parser.add_argument("--workers", type=int, default=2, help="the run had, and the scoring (2)")
    arguments = parser.parse_args()
    run = Run(arguments.run)
    summary = run_facts(run, arguments.workers)
    agent = load_agent(run.folder)
    path = FOLDER / f"{arguments.name}.safetensors"
    save_agent(path, agent, {**agent.metadata, "shipped": summary})
    results = arguments.docs / "results"
    write_json(results / f"{arguments.name}.json", {**summary, "shipped_digest": file_digest(path)})
    shutil.copyfile(run.folder / PICTURE, results / f"{arguments.name}.png")
    scores = summary["scores"]
    print(f"{path}: {scores['mean']:.1f} ± {scores['std']:.1f}, {summary['minutes']:.1f} minutes")


def run_facts(run: Run, num_workers: int) -> dict[str, Any]:
    """What the run was, how it went and what its best agent scores."""
    settings = run.settings
    kind = " --quantized" if settings.quantized else ""
    with Workers(num_workers) as workers:
        evaluation = evaluate_run(run, HEADLINE, workers=workers, report=Report())
    (row,) = evaluation["rows"]
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
        "scores": row,
    }


if __name__ == "__main__":
    main()
