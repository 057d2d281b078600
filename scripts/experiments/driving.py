"""Train V and M on collected episodes, and encode drives of the scripted driver for evaluation."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from agents.rollout import Rollout
from agents.scripted_episodes import drive
from agents.seeds import seeds
from envs.tasks import DEFAULT_ENV_ID, task_for
from scripts.experiments.experiment import Context
from scripts.experiments.forked_run import fork_run
from worldmodels.data.batches import AgentSteps
from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory import Memory
from worldmodels.memory.encoding import encode_episodes, encode_rollouts
from worldmodels.memory.metrics import held_out_metrics
from worldmodels.memory.training import MemoryStageConfig, SequenceBatches, new_memory
from worldmodels.presets import DEMO
from worldmodels.runs.run import Run
from worldmodels.stages.train_vision import train_vision
from worldmodels.training.fit import fit
from worldmodels.vision import Vision, VQVAEConfig, load_vision

REPEAT = task_for(DEFAULT_ENV_ID).action_repeat
VISIONS = {
    "VAE": DEMO.vae,
    "FSQ": DEMO.vqvae,
    "VQ": replace(DEMO.vqvae, model=VQVAEConfig(decoder_channels=64)),
}


def trained_vision(data: Run, kind: str, steps: int | None, context: Context) -> Vision:
    """Train a V on the episodes of `data`, or load the V if an earlier call has trained it.

    The V belongs to a separate run, whose folder is next to the folder of `data`.
    """
    run = fork_run(data, data.folder.parent / kind, stages=())
    train_vision(run, VISIONS[kind].with_steps(steps), report=context.report)
    return load_vision(run)


def encoded_data(
    vision: Vision, data: Run, num_drives: int
) -> tuple[SequenceBatch, SequenceBatch, SequenceBatch, list[np.ndarray]]:
    """Encode the training, validation and evaluation episodes of M; also return frames.

    The training and validation episodes are those of `data`. The evaluation episodes are
    `num_drives` new drives of the scripted driver on validation tracks. The last returned value is
    a list with the frames of each drive.
    """
    rollouts = [drive(seed, action_repeat=REPEAT) for seed in seeds("validation", num_drives)]
    splits = (data.store.split(held_out) for held_out in (False, True))
    train, validation = (encode_episodes(vision, split, REPEAT) for split in splits)
    return train, validation, *encoded_drives(vision, rollouts, REPEAT)


def encoded_drives(
    vision: Vision, rollouts: Sequence[Rollout], repeat: int
) -> tuple[SequenceBatch, list[np.ndarray]]:
    """Return encoded episodes, and the frames before each agent step and after the last one."""
    lengths = [rollout.num_steps for rollout in rollouts]
    frames = [AgentSteps.from_rollout(rollout, repeat).frames for rollout in rollouts]
    return encode_rollouts(vision, rollouts, lengths, repeat), frames


def trained_memory(
    vision: Vision, train: SequenceBatch, validation: SequenceBatch, config: MemoryStageConfig
) -> tuple[Memory, int, float]:
    """Train an M from random weights; return M, the number of steps, and the training seconds."""
    torch.manual_seed(1)
    memory = new_memory(config, vision, train.num_actions)
    memory.calibrate(train)
    batches = SequenceBatches(train, config.fit.batch_size, config.sequence_length, config.burn_in)
    validate = partial(held_out_metrics, memory, validation)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(memory, batches, validate, config.fit, seed=0, folder=Path(folder))
    return memory.eval(), fitted.steps, time.monotonic() - started
