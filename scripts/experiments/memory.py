"""Kinds of M on the same episodes: held-out nats beside two baselines, and open-loop dreams.

    python scripts/experiments/memory.py --json docs/results/memory.json --pictures docs

Trained on episodes of the exploring policy and of the scripted driver with noise, slow and fast, on
training tracks; judged on the same driver without noise, on validation tracks, by whose episodes
nothing is chosen. (None of these models drives: a driver that reads the track teaches no agent.)
Writes the table, the open-loop curves and pictures of dreams. One process and one thread a model;
about 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from agents.scripted_episodes import drive
from agents.seeds import seeds
from agents.workers import Workers
from envs.tasks import DEFAULT_ENV_ID, task_for
from worldmodels.data.batches import AgentSteps
from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.open_loop import OpenLoop
from worldmodels.dream.pictures import most_active_episode
from worldmodels.memory import Memory
from worldmodels.memory.encoding import encode_episodes, encode_rollouts
from worldmodels.memory.metrics import held_out_metrics
from worldmodels.memory.training import MemoryStageConfig, SequenceBatches, new_memory
from worldmodels.presets import DEMO
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.runs.provenance import versions
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.collect import collect
from worldmodels.stages.evaluate_memory import (
    EvaluateMemoryConfig,
    draw_dreams,
    draw_open_loop,
    memory_figures,
    train_memoryless,
)
from worldmodels.stages.train_vision import train_vision
from worldmodels.training.fit import fit
from worldmodels.vision import Vision, VQVAEConfig, restore_vision

LEAN = DEMO.memory
PAPER = replace(LEAN, num_hidden=256, num_mixtures=5, predict_change=False)
VISIONS = {
    "VAE": DEMO.vae,
    "FSQ": DEMO.vqvae,
    "VQ": replace(DEMO.vqvae, model=replace(VQVAEConfig(), decoder_channels=64)),
}


@dataclass(frozen=True)
class Kind:
    """An M, the V it is over, and whether its dreams are drawn."""

    vision: str
    config: MemoryStageConfig
    drawn: str = ""


KINDS = {
    "VQ K = 256, lean": Kind("VQ", LEAN),
    "MDN-RNN, paper's size": Kind("VAE", PAPER),
    "MDN-RNN, lean": Kind("VAE", LEAN),
    "MDN-RNN, lean, 5 Gaussians": Kind("VAE", replace(LEAN, num_mixtures=5), drawn="continuous"),
    "MDN-RNN, lean, 3 members": Kind("VAE", replace(LEAN, ensemble_size=3)),
    "FSQ, lean": Kind("FSQ", LEAN, drawn="codes"),
    "FSQ, lean, 5 components": Kind("FSQ", replace(LEAN, num_mixtures=5)),
    "FSQ, lean, independent codes": Kind("FSQ", replace(LEAN, autoregressive=False)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=96, help="of exploration (96)")
    parser.add_argument("--noisy", type=int, default=48, help="of the driver with noise (48)")
    parser.add_argument("--drives", type=int, default=16, help="to judge by (16)")
    parser.add_argument("--steps", type=int, help="optimizer steps, of V and of M")
    parser.add_argument("--workers", type=int, default=2, help="models trained at a time (2)")
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw into this folder")
    arguments = parser.parse_args()
    wanted = sorted({KINDS[name].vision for name in arguments.only})
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(arguments.workers, mp_context=spawn) as executor,
    ):
        data = Path(folder) / "data"
        collect_episodes(data, arguments.episodes, arguments.noisy, arguments.workers)
        episodes = list(Run(data).store)
        steps, drives = arguments.steps, arguments.drives
        list(executor.map(functools.partial(prepare, data, steps, drives), wanted))
        work = functools.partial(train, data, steps, arguments.pictures)
        rows = {}
        for name, row in zip(arguments.only, executor.map(work, arguments.only), strict=True):
            rows[name] = row
            print(f"{name}: {row['nll']:.2f} nats", flush=True)
    show(rows)
    if arguments.pictures is not None:
        draw_curves(arguments.pictures / "open_loop.png", rows)
    if arguments.json is not None:
        result = {
            "command": " ".join(["python", *sys.argv]),
            "episodes": len(episodes),
            "drives": drives,
            "versions": versions(),
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def collect_episodes(folder: Path, num_exploring: int, num_noisy: int, num_workers: int) -> None:
    """A run with episodes to train on and nothing else yet."""
    run = Run(folder, RunSettings(DEFAULT_ENV_ID, DEMO.name, seed=0))
    run.create()
    with Workers(num_workers) as workers:
        config = replace(DEMO.collect, episodes=num_exploring)
        collect(run, config, workers=workers, report=Report(quiet=True))
    random, repeat = np.random.default_rng(0), task_for(DEFAULT_ENV_ID).action_repeat
    for index, seed in enumerate(seeds("training", num_noisy), start=num_exploring):
        noise, top_speed = random.choice((0.1, 0.3, 0.6)), random.uniform(40.0, 90.0)
        rollout = drive(seed, action_repeat=repeat, noise=noise, top_speed=top_speed)
        run.store.add(index, rollout)


ENCODED = "encoded.safetensors"


@dataclass(frozen=True)
class Encoded:
    """What M is trained on, chosen by and judged on, as one V sees it."""

    train: SequenceBatch
    validation: SequenceBatch
    drives: SequenceBatch
    drive_frames: list[np.ndarray]

    def save(self, path: Path) -> None:
        parts = {"train": self.train, "validation": self.validation, "drives": self.drives}
        tensors = {
            f"{part}.{field.name}": getattr(sequences, field.name)
            for part, sequences in parts.items()
            for field in fields(SequenceBatch)
        }
        frames = {f"frames.{i}": torch.from_numpy(each) for i, each in enumerate(self.drive_frames)}
        save_checkpoint(path, {**tensors, **frames}, {"drives": len(frames)})

    @classmethod
    def load(cls, path: Path) -> "Encoded":
        saved = load_checkpoint(path, hint="prepare V again")
        parts = (SequenceBatch(**saved.part(name)) for name in ("train", "validation", "drives"))
        frames = saved.part("frames")
        train, validation, drives = parts
        return cls(
            train,
            validation,
            drives,
            [frames[str(i)].numpy() for i in range(saved.metadata["drives"])],
        )


def prepare(data: Path, steps: int | None, num_drives: int, name: str) -> None:
    """Train a V on the episodes; leave it and all episodes as it sees them beside the others."""
    torch.set_num_threads(1)
    folder = data.parent / name
    folder.mkdir()
    (folder / "run.json").write_bytes((data / "run.json").read_bytes())
    (folder / "episodes").symlink_to(data / "episodes")
    run = Run(folder)
    train_vision(run, VISIONS[name].with_steps(steps), report=Report(quiet=True))
    vision = load_vision(run)
    repeat = task_for(DEFAULT_ENV_ID).action_repeat
    rollouts = [drive(seed, action_repeat=repeat) for seed in seeds("validation", num_drives)]
    lengths = [rollout.num_steps for rollout in rollouts]
    train, validation = (
        encode_episodes(vision, run.store.split(held_out), repeat) for held_out in (False, True)
    )
    encoded = Encoded(
        train,
        validation,
        encode_rollouts(vision, rollouts, lengths, repeat),
        [AgentSteps.from_rollout(rollout, repeat).frames for rollout in rollouts],
    )
    encoded.save(folder / ENCODED)


def load_vision(run: Run) -> Vision:
    path = run.weights("vision")
    return restore_vision(load_checkpoint(path, hint=""), path)


def train(data: Path, steps: int | None, pictures: Path | None, name: str) -> dict[str, Any]:
    """One M from random weights, and the same net without recurrence; their figures."""
    torch.set_num_threads(1)
    kind = KINDS[name]
    run = Run(data.parent / kind.vision)
    vision = load_vision(run)
    encoded = Encoded.load(run.folder / ENCODED)
    config = kind.config.with_steps(steps)
    torch.manual_seed(1)
    memory = new_memory(config, vision, encoded.train.actions.shape[-1])
    memory.calibrate(encoded.train)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(
            memory,
            SequenceBatches(
                encoded.train, config.fit.batch_size, config.sequence_length, config.burn_in
            ),
            lambda: held_out_metrics(memory, encoded.validation),
            config.fit,
            seed=0,
            folder=Path(folder),
            checkpoint_seconds=1e9,
        )
    seconds = time.monotonic() - started
    memory.eval()
    memoryless = train_memoryless(
        config, vision, encoded.train, encoded.validation, seed=0, report=Report(quiet=True)
    )
    repeat = task_for(DEFAULT_ENV_ID).action_repeat
    figures, _ = memory_figures(
        vision,
        memory,
        memoryless,
        encoded.train,
        encoded.drives,
        encoded.drive_frames,
        EvaluateMemoryConfig(),
        repeat,
    )
    if pictures is not None and kind.drawn:
        draw(pictures / f"dreams_{kind.drawn}.png", vision, memory, encoded, repeat)
    return {
        "parameters": sum(p.numel() for p in memory.parameters()),
        "optimizer_steps": fitted.steps,
        "training_seconds": round(seconds, 1),
        "exploring_nll": held_out_metrics(memory, encoded.validation)["nll"],
        **figures,
    }


def draw(path: Path, vision: Vision, memory: Memory, encoded: Encoded, repeat: int) -> None:
    row = most_active_episode(encoded.drives)
    draw_dreams(path, vision, memory, encoded.drives, encoded.drive_frames, row, repeat)


def draw_curves(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Open-loop errors of the kinds whose dreams are drawn."""
    curves = {
        KINDS[name].drawn: OpenLoop(
            *(row["open_loop"][part] for part in ("predicted", "persistence", "reconstruction"))
        )
        for name, row in rows.items()
        if KINDS[name].drawn
    }
    if curves:
        draw_open_loop(path, curves, task_for(DEFAULT_ENV_ID).action_repeat)


def show(rows: dict[str, dict[str, Any]]) -> None:
    """The figures as a table."""
    table = Table(title="M on held-out driving: nats per agent step, and open-loop squared error")
    columns: Iterable[str] = (
        *("M", "parameters", "nats", "bits", "no recurrence", "persistence", "reward R2"),
        *("dream at 20", "persistence", "dream at 52", "persistence", "below until"),
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "M" else "right")
    for name, row in rows.items():
        loop = row["open_loop"]
        repeat = loop["action_repeat"]
        places = [step // repeat - 1 for step in (20, 52)]
        errors = [f"{loop[part][p]:.0f}" for p in places for part in ("predicted", "persistence")]
        table.add_row(
            name,
            f"{row['parameters']:,}",
            f"{row['nll']:.1f}",
            f"{row['bits_per_frame']:.1f}",
            f"{row['memoryless_nll']:.1f}",
            f"{row['persistence_nll']:.1f}",
            f"{row['reward_r2']:.2f}",
            *errors,
            f"{loop['steps_below_persistence']}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
