"""How well a linear C drives with parts of what it sees, searched by CMA-ES in the real game.

Source: arXiv 1803.10122, table 1: z alone, and z with h.
"""

from __future__ import annotations

from typing import Any

from agents.workers import Workers
from scripts.experiments.borrowed_run import borrowed_run
from scripts.experiments.quantized.kinds import Inputs
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.memory import make_memory, restore_memory
from worldmodels.memory.ensemble import MemoryEnsemble
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.stages.train_controller import ControllerStageConfig, train_controller
from worldmodels.training.seeding import global_seed

ABLATION = ControllerStageConfig(
    eval_episodes=16,
    selection_episodes=100,
    cmaes=CMAESConfig(generations=30, population=32, episodes=2, horizon=250, validate_every=10),
)


@locks_run
def ablation_measures(
    run: Run,
    name: str,
    inputs: Inputs,
    config: ControllerStageConfig,
    workers: Workers,
    report: Report,
    device: str = "cpu",
) -> dict[str, Any]:
    """A search from zero on the run's V and M, in a folder of the run of that name."""
    folder = run.folder / "ablation" / name
    borrowed = borrowed_run(run, folder)
    if not inputs.trained:
        reset_recurrent_weights(borrowed, run.settings.seed)
    result = train_controller(borrowed, config, workers=workers, report=report, device=device)
    return {
        "label": inputs.label,
        "parameters": result["parameters"],
        "score": result["real_score"],
        "std": result["real_std"],
        "episodes": result["selection_episodes"],
        "evaluations": [
            {key: round(evaluation[key], 1) for key in ("seconds", "steps", "real_score")}
            for evaluation in result["history"]
            if "real_score" in evaluation
        ],
    }


def reset_recurrent_weights(run: Run, seed: int) -> None:
    """Give the run's M random recurrent weights in place of the trained ones; twice is as once."""
    path = run.weights("memory")
    checkpoint = load_checkpoint(path, hint="train M first")
    memory = restore_memory(checkpoint, path)
    assert not isinstance(memory, MemoryEnsemble), "the study's M has no members"
    with global_seed(seed):
        fresh = make_memory(memory.config)
    assert not isinstance(fresh, MemoryEnsemble)
    memory.lstm.load_state_dict(fresh.lstm.state_dict())
    weights = with_prefix("memory", memory.state_dict())
    save_checkpoint(path, {**checkpoint.tensors, **weights}, checkpoint.metadata)
