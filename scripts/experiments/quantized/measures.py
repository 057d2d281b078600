"""Measures of the agent, of V, of M and of the dreams of a finished run."""

from dataclasses import asdict
from itertools import compress
from pathlib import Path

import numpy as np
import torch

from agents.scripted_episodes import drive
from agents.seeds import seeds
from envs.perturbations import PERTURBATIONS
from scripts.experiments.driving import encoded_drives
from scripts.experiments.experiment import Context, Result
from scripts.experiments.quantized.code_gallery import code_measures
from scripts.experiments.quantized.rates import rates
from worldmodels.controller.agent import load_agent
from worldmodels.dream.load import encode_recent
from worldmodels.dream.model import DreamModel
from worldmodels.dream.open_loop import open_loop
from worldmodels.memory.metrics import score_memory
from worldmodels.progress import Report
from worldmodels.runs.learning_curve import LearningCurve
from worldmodels.runs.run import Run
from worldmodels.stages.evaluate import EvaluateConfig, evaluate_run
from worldmodels.vision import VQVAE
from worldmodels.vision.metrics import score_alike

SCORE_THRESHOLD = 500  # agent steps until this score are counted
HORIZON = 100  # env steps of open-loop dreams
# With the driver's defaults (80 and 120) and one action per four frames, half of the drives leave
# the road.
DRIVER = {"top_speed": 60.0, "cornering": 80.0}


def agent_measures(run: Run, episodes: int, context: Context) -> Result:
    """Return scores on test tracks of the fast env, without (`none`) and with perturbations."""
    scores = {}
    for name in (None, *PERTURBATIONS):
        config = EvaluateConfig(episodes=episodes, split="test", perturbation=name)
        row = evaluate_run(run, config, workers=context.workers, report=context.report)["rows"][0]
        scores[name or "none"] = {key: row[key] for key in ("mean", "std", "interval")}
    return scores


def curve_measures(run: Run) -> Result:
    """Return one row per round, and the number of real agent steps until a score of 500.

    `agent_steps_to_threshold` is None if no round's agent reached `SCORE_THRESHOLD`.
    """
    rows = LearningCurve(run).rows
    steps = [row["env_steps"] // run.action_repeat for row in rows]
    good = [row["score"] >= SCORE_THRESHOLD for row in rows]
    return {
        "minutes": rows[-1]["seconds"] / 60,
        "agent_steps_to_threshold": next(compress(steps, good), None),
        "agent_steps": steps[-1],
        "rounds": rows,
    }


def world_measures(
    run: Run, drives: int, report: Report, gallery: Path, device: str = "cpu"
) -> Result:
    """Measure V and M of the best agent on drives of the scripted driver.

    The drives are the same for all runs.

    Args:
        gallery: path of the picture of frames that share a code. The picture is drawn only if V has
            codes.
    """
    agent = load_agent(run.folder)
    vision, memory, repeat = agent.vision.to(device), agent.memory.to(device), agent.action_repeat
    rollouts = []
    with report.progress("held-out drives", total=drives) as meter:
        for seed in seeds("driving", drives):
            rollouts.append(drive(seed, action_repeat=repeat, **DRIVER))
            meter.advance()
    driven, frames = encoded_drives(vision, rollouts, repeat)
    train = encode_recent(run, vision, report, most=64)
    dream = DreamModel(vision, memory)
    curves = open_loop(dream, driven, frames, horizon=HORIZON // repeat)
    scores = score_memory(vision, memory, train, driven)
    nlls = {name: scores[name] for name in ("nll", "persistence_nll")}
    measures = {
        "vision": score_alike(vision, torch.from_numpy(np.concatenate(frames))),
        "memory": {**nlls, "reward_r2": scores["reward_r2"]},
        "bits": rates(vision, driven, **nlls),
        "open_loop": {"action_repeat": repeat, **asdict(curves)},
    }
    if isinstance(vision, VQVAE):
        measures["explained_variance_by_code"] = code_measures(vision, frames, gallery)
    return measures
