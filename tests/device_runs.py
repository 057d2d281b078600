"""Runs for the drives of `tests.device_drives`, with settings as small as can be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agents.workers import Workers
from tests.counting_env import BOX_ID
from tests.tiny_models import codernn, frames, mdnrnn, rollout, vqvae
from tests.tiny_run import box_run, tiny_run, write_memory, write_vision
from worldmodels.memory import MemoryEnsemble
from worldmodels.pathwise import PathwiseConfig
from worldmodels.proximal import ProximalConfig
from worldmodels.report import Report
from worldmodels.run import Run, RunSettings
from worldmodels.stages.controller import ControllerStageConfig, train_controller
from worldmodels.stages.fitness import EvolutionConfig
from worldmodels.stages.gradient import GradientConfig
from worldmodels.stages.prior import PriorStageConfig, train_prior
from worldmodels.training import FitConfig

QUIET = Report(quiet=True)
# Beyond step 10, where the first checkpoint is written.
FIT = FitConfig(14, 6, learning_rate=3e-3, max_gradient_norm=1.0, validate_every=6)
SMALL_DREAMS = {"num_decisions": 3, "critic_width": 8, "average_rate": 0.2}
CONTROLLER = ControllerStageConfig(
    search="gradient",
    dream=True,
    far_share=0.3,
    eval_episodes=1,
    selection_episodes=1,
    evolution=EvolutionConfig(
        generations=2, population=4, episodes=2, max_decisions=4, validate_every=2
    ),
    pathwise=GradientConfig(fit=FIT, later=FIT, learner=PathwiseConfig(**SMALL_DREAMS)),
    proximal=GradientConfig(fit=FIT, later=FIT, learner=ProximalConfig(**SMALL_DREAMS, updates=3)),
)


def made(folder: Path, make: Callable[..., Run], *how: Any) -> Run:
    """The run in the folder, as a drive that was stopped left it, or a new one."""
    return Run(folder) if folder.exists() else make(folder, *how)


def frames_run(folder: Path) -> Run:
    """A run of a few episodes and nothing else."""
    run = Run(folder, RunSettings(BOX_ID, "tiny", 0))
    run.create()
    for index in range(4):
        run.store.add(index, rollout(12, seed=index, env_id=BOX_ID))
    return run


def world_run(folder: Path, kind: str, members: int) -> Run:
    """A run of an env whose episodes are a few steps long, with an M of so many members."""
    if kind == "fsq":
        return tiny_run(folder, "fsq", members=members)
    if kind == "vq":
        return codebook_run(folder)
    run = box_run(folder)
    if members > 1:
        each = [mdnrnn(seed, num_actions=2) for seed in range(members)]
        write_memory(run, MemoryEnsemble(each), round_=2)
    return run


def codebook_run(folder: Path) -> Run:
    """A run whose codes are of a learned codebook; it has more values than are drawn in one go."""
    run = tiny_run(folder, "fsq")
    vision = vqvae("vq", codebook_size=36)
    vision.loss(torch.from_numpy(frames(20)))  # takes the codebook from the data
    write_vision(run, vision, round_=2)
    of_codes = {"num_codes": 16, "digit_sizes": (36,), "vector_size": 3}
    write_memory(run, codernn(code_vectors=vision.code_vectors, **of_codes), round_=2)
    return run


def agent_run(folder: Path, kind: str, members: int) -> Run:
    """The same with an agent, searched on the CPU."""
    run = made(folder, world_run, kind, members)
    config = replace(CONTROLLER, search="evolution", dream=False)
    train_controller(run, config, workers=Workers(1), report=QUIET, device="cpu")
    return run


def run_with_prior(folder: Path, device: str) -> Run:
    run = made(folder, tiny_run, "fsq")
    config = PriorStageConfig(num_channels=6, num_layers=2, dropout=0.3, fit=FIT)
    train_prior(run, config, report=QUIET, device=device)
    return run
