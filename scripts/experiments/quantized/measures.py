"""What is measured of a finished run: its agent, V, M and dreams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.scripted_episodes import drive
from agents.seeds import seeds
from agents.workers import Workers
from envs.perturbations import PERTURBATIONS
from scripts.experiments.quantized.code_sheet import (
    code_sheet,
    explained_variance_by_code,
    frame_codes,
)
from scripts.experiments.quantized.rates import rates
from worldmodels.controller.agent import load_agent
from worldmodels.data.batches import AgentSteps
from worldmodels.dream.load import encode_recent
from worldmodels.dream.open_loop import open_loop
from worldmodels.memory.encoding import encode_rollouts
from worldmodels.memory.metrics import score_memory
from worldmodels.plotting import save_grid
from worldmodels.progress import Report
from worldmodels.runs.learning_curve import LearningCurve
from worldmodels.runs.run import Run
from worldmodels.stages.dream_check import DreamCheckConfig, dream_check
from worldmodels.stages.evaluate import EvaluateConfig, evaluate_run
from worldmodels.vision import VQVAE
from worldmodels.vision.metrics import score_alike

SCORE_THRESHOLD = 500  # agent steps to such a score are counted
HORIZON = 100  # env steps that open-loop dreams go on for
# Its usual 80 and 120, decided every fourth frame, leave the road in half of the drives.
DRIVER = {"top_speed": 60.0, "cornering": 80.0}
SHEET_ROWS, SHEET_COLUMNS = 6, 10


def agent_measures(run: Run, episodes: int, workers: Workers, report: Report) -> dict[str, Any]:
    """Scores over test tracks, as they are (`none`) and perturbed; in the fast env."""
    scores = {}
    for name in (None, *PERTURBATIONS):
        config = EvaluateConfig(episodes=episodes, split="test", perturbation=name)
        row = evaluate_run(run, config, workers=workers, report=report)["rows"][0]
        scores[name or "none"] = {key: row[key] for key in ("mean", "std", "interval")}
    return scores


def curve_measures(run: Run) -> dict[str, Any]:
    """The run's rounds, and agent steps of real driving before an agent scored `SCORE_THRESHOLD`.

    `agent_steps_to_threshold` is None where none did.
    """
    rows = LearningCurve(run).rows
    repeat = run.action_repeat
    reached = next(
        (row["env_steps"] // repeat for row in rows if row["score"] >= SCORE_THRESHOLD), None
    )
    return {
        "minutes": rows[-1]["seconds"] / 60,
        "agent_steps_to_threshold": reached,
        "agent_steps": rows[-1]["env_steps"] // repeat,
        "rounds": rows,
    }


def world_measures(
    run: Run, drives: int, report: Report, sheet: Path, device: str = "cpu"
) -> dict[str, Any]:
    """V and M of the best agent on episodes of the scripted driver, the same for all runs.

    Args:
        sheet: where a picture of frames that share a code goes, if V has codes.
    """
    agent = load_agent(run.folder)
    agent.vision.to(device)
    agent.memory.to(device)
    repeat = agent.action_repeat
    rollouts = []
    with report.progress("held-out drives", total=drives) as meter:
        for seed in seeds("driving", drives):
            rollouts.append(drive(seed, action_repeat=repeat, **DRIVER))
            meter.advance()
    frames = [AgentSteps.from_rollout(rollout, repeat).frames for rollout in rollouts]
    driven = encode_rollouts(
        agent.vision, rollouts, [rollout.num_steps for rollout in rollouts], repeat
    )
    train = encode_recent(run, agent.vision, report, most=64)
    curves = open_loop(agent.vision, agent.memory, driven, frames, horizon=HORIZON // repeat)
    memory = score_memory(agent.vision, agent.memory, train, driven)
    explained = rates(
        agent.vision, driven, persistence_nll=memory["persistence_nll"], nll=memory["nll"]
    )
    seen_by_codes = (
        {"codes": code_measures(agent.vision, frames, sheet)}
        if isinstance(agent.vision, VQVAE)
        else {}
    )
    return {
        **seen_by_codes,
        "vision": score_alike(agent.vision, torch.from_numpy(np.concatenate(frames))),
        "memory": {name: memory[name] for name in ("nll", "persistence_nll", "reward_r2")},
        "bits": asdict(explained),
        "open_loop": {"action_repeat": repeat, **asdict(curves)},
    }


def code_measures(vision: VQVAE, drives: Sequence[np.ndarray], sheet: Path) -> dict[str, float]:
    """How much of a picture a single code tells, and a sheet of frames that share one.

    Returns: `own_cell` and `other_cells`, shares of what varies in the code's own cell and in a
    cell elsewhere, means over cells.
    """
    coded = [(frames, frame_codes(vision, frames)) for frames in drives]
    grid = vision.config.grid
    explained = explained_variance_by_code(coded, grid)
    own = np.diagonal(explained)
    rows = code_sheet(
        np.concatenate([frames for frames, _ in coded]),
        np.concatenate([codes for _, codes in coded]),
        grid=grid,
        rows=SHEET_ROWS,
        columns=SHEET_COLUMNS,
    )
    save_grid(sheet, rows)
    others = (explained.sum() - own.sum()) / (explained.size - len(own))
    return {"own_cell": float(own.mean()), "other_cells": float(others)}


def dream_measures(
    run: Run, config: DreamCheckConfig, workers: Workers, report: Report, device: str = "cpu"
) -> dict[str, Any]:
    """How the dream's returns stand to the game's, over the run's agent and noisier ones."""
    checked = dream_check(run, config, workers=workers, report=report, device=device)
    return {"scores": checked["scores"], "horizons": checked["horizons"]}
