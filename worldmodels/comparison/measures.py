"""What is measured of a finished run: its agent, V, M and dreams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from agents.collecting import play_episodes
from agents.scripted_episodes import drive
from agents.seeds import seeds
from agents.workers import Workers
from envs.perturbations import PERTURBATIONS
from worldmodels.agent import Agent, load_agent
from worldmodels.data.batches import Decisions
from worldmodels.encoding import encode_rollouts
from worldmodels.learning_curve import LearningCurve
from worldmodels.memory_scores import score_memory
from worldmodels.open_loop import open_loop
from worldmodels.report import Report
from worldmodels.run import Run
from worldmodels.stages.dream_check import DreamCheckConfig, dream_check
from worldmodels.stages.evaluate import EvaluateConfig, evaluate_run
from worldmodels.vision import VAE, VQVAE, Vision
from worldmodels.vision.objective import common_colours
from worldmodels.vision.scores import mean_frame, score_vision
from worldmodels.world_model import encode_newest

SOLVES = 500  # decisions to such a score are counted
DRIVES = 8
FIRST_DRIVE = 700_000  # of the validation tracks; nothing else plays there
HORIZON = 100  # env steps that open-loop dreams go on for


def agent_measures(run: Run, episodes: int, workers: Workers, report: Report) -> dict[str, Any]:
    """Scores over unseen tracks, as they are and perturbed; in the fast env."""
    scores = {}
    for name in (None, *PERTURBATIONS):
        config = EvaluateConfig(episodes=episodes, split="test", perturbation=name)
        row = evaluate_run(run, config, workers=workers, report=report)["rows"][0]
        scores[name or "none"] = {key: row[key] for key in ("mean", "std", "interval", "returns")}
    return {"scores": scores}


def curve_measures(run: Run) -> dict[str, Any]:
    """The run's rounds, and the decisions of real driving before one scored `SOLVES`."""
    rows = LearningCurve(run).rows
    repeat = run.action_repeat
    there = next((row["env_steps"] // repeat for row in rows if row["score"] >= SOLVES), None)
    return {
        "minutes": rows[-1]["seconds"] / 60,
        "decisions_to_500": there,
        "decisions": rows[-1]["env_steps"] // repeat,
        "rounds": rows,
    }


def world_measures(run: Run, report: Report) -> dict[str, Any]:
    """V and M of the best agent on episodes of the scripted driver, the same for all runs."""
    agent = load_agent(run.folder)
    repeat = agent.action_repeat
    with report.progress("held-out drives", total=DRIVES) as meter:
        rollouts = []
        for seed in seeds("validation", DRIVES, FIRST_DRIVE):
            rollouts.append(drive(seed, action_repeat=repeat))
            meter.advance()
    frames = [Decisions.from_rollout(rollout, repeat).frames for rollout in rollouts]
    lengths = [rollout.num_steps for rollout in rollouts]
    drives = encode_rollouts(agent.vision, rollouts, lengths, repeat)
    train = encode_newest(run, agent.vision, report, most=64)
    curves = open_loop(
        agent.vision, agent.memory, drives, frames, num_decisions=HORIZON // repeat
    )
    memory = score_memory(agent.vision, agent.memory, train, drives)
    return {
        "vision": _vision(agent.vision, torch.from_numpy(np.concatenate(frames))),
        "memory": {name: memory[name] for name in ("nll", "stay_nll", "reward_r2")},
        "open_loop": {"action_repeat": repeat, **asdict(curves)},
    }


def _vision(vision: Vision, frames: UInt8[torch.Tensor, "frames 64 64 3"]) -> dict[str, Any]:
    # One mask for all: each V has the common colours of its own training frames.
    own = vision.config
    vision.config = type(own)(
        **{**vars(own), "common_colours": common_colours(frames[::5].numpy())}
    )
    seen = score_vision(vision, frames, mean_frame(frames))
    vision.config = own
    names = ("error", "foreground_error", "rare_error", "codes_used", "perplexity")
    return {
        **{name: seen[name] for name in names if name in seen},
        "mean_frame_error": seen["mean_frame_error"],
        "bits": seen.get("bits_per_frame") or _posterior_bits(vision, frames),
    }


@torch.no_grad()
def _posterior_bits(vision: Vision, frames: UInt8[torch.Tensor, "frames 64 64 3"]) -> float:
    """Bits that a VAE's posterior tells of a frame: its KL to the prior, what bits-back coding pays."""
    assert isinstance(vision, VAE)
    total = 0.0
    for part in frames.split(256):
        mu, logvar = vision.encode(part).chunk(2, dim=-1)
        total += float(0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum())
    return total / len(frames) / math.log(2.0)


def dream_measures(run: Run, workers: Workers, report: Report) -> dict[str, Any]:
    """How the dream's returns stand to the game's, over twelve agents."""
    checked = dream_check(run, DreamCheckConfig(), workers=workers, report=report)
    return {"dream": {"scores": checked["scores"], "horizons": checked["horizons"]}}


def code_sheet(
    agent: Agent, frames: Sequence[UInt8[np.ndarray, "_ 64 64 3"]], *, rows: int, columns: int
) -> dict[str, UInt8[np.ndarray, "frame 64 64 3"]] | None:
    """Real frames that share a code: a row each of the commonest codes; None for a continuous V.

    Codes are those of one cell of the grid, the one whose codes vary most; its place is framed in
    every picture. Frames of a row are spread over the drives, so that they are no neighbours.
    """
    vision = agent.vision
    if not isinstance(vision, VQVAE):
        return None
    pictures = np.concatenate(list(frames))
    with torch.no_grad():
        parts = torch.from_numpy(pictures).split(256)
        codes = torch.cat([vision.mode(vision.encode(part)) for part in parts]).numpy()
    grid = vision.config.grid
    kinds = [len(np.unique(codes[:, cell])) for cell in range(grid * grid)]
    cell = int(np.argmax(kinds))
    values, counts = np.unique(codes[:, cell], return_counts=True)
    sheet = {}
    for value in values[np.argsort(-counts)][:rows]:
        places = np.flatnonzero(codes[:, cell] == value)
        chosen = places[np.linspace(0, len(places) - 1, columns).astype(int)]
        sheet[f"code {value}: {len(places)}"] = _framed(pictures[chosen], cell, grid)
    return sheet


def _framed(
    pictures: UInt8[np.ndarray, "frame 64 64 3"], cell: int, grid: int
) -> UInt8[np.ndarray, "frame 64 64 3"]:
    side = 64 // grid
    top, left = cell // grid * side, cell % grid * side
    framed = pictures.copy()
    yellow = (255, 255, 0)
    framed[:, top, left : left + side] = framed[:, top + side - 1, left : left + side] = yellow
    framed[:, top : top + side, left] = framed[:, top : top + side, left + side - 1] = yellow
    return framed


def agent_frames(
    place: Path, episodes: int, workers: Workers
) -> list[UInt8[np.ndarray, "_ 64 64 3"]]:
    """Frames of an agent's own driving, one a decision, on validation tracks."""
    from worldmodels.agent import AgentFactory

    agent = load_agent(place)
    tracks = seeds("validation", episodes, FIRST_DRIVE)
    rollouts = play_episodes(agent.body.env_id, AgentFactory(place), tracks, workers=workers)
    return [Decisions.from_rollout(rollout, agent.action_repeat).frames for rollout in rollouts]
