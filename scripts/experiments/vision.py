"""Every kind of V on the same frames for the same epochs: held-out error and codes used.

    python scripts/experiments/vision.py --json docs/results/vision.json --picture docs/vision.png

Trained on frames of the exploring policy, judged on frames of a driver that V never saw: the
scripted one, on validation tracks. The last ones look harder at curbs, which takes them longer.
One process and one thread a V; about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from agents.collecting import play_episodes
from agents.scripted_episodes import drive
from agents.seeds import seeds
from agents.workers import Workers
from envs.config import EnvConfig
from envs.tasks import DEFAULT_ENV_ID, task_for
from worldmodels.controller.policies import make_policy
from worldmodels.plotting import save_grid
from worldmodels.runs.provenance import versions
from worldmodels.training.fit import FitConfig, fit
from worldmodels.vision import (
    VQVAE,
    CategoricalVAEConfig,
    VAEConfig,
    Vision,
    VisionConfig,
    VQVAEConfig,
    make_vision,
)
from worldmodels.vision.batched import encode_frames
from worldmodels.vision.metrics import code_usage, mean_frame, score_vision
from worldmodels.vision.objective import common_colors

BATCH_SIZE = 64
SHOWN = 10  # frames in the picture, half of them the sharpest turns
LEAN = VAEConfig(network="lean")
FSQ = VQVAEConfig(quantizer="fsq")
LIGHT = replace(LEAN, kl_weight=0.1, free_nats=0.25)
CURBS: dict[str, Any] = {"decoder_channels": 64, "background_weight": 0.3, "rare_weight": 4.0}


@dataclass(frozen=True)
class Kind:
    """A V, and how many times the epochs of the others it gets."""

    config: VisionConfig
    times_epochs: float = 1.0


KINDS = {
    "VAE, paper's network": Kind(VAEConfig()),
    "VAE, lean": Kind(LEAN),
    "VQ 4x4": Kind(VQVAEConfig()),
    "FSQ 4x4": Kind(FSQ),
    "FSQ 4x4, grass at 0.3": Kind(replace(FSQ, background_weight=0.3)),
    "VQ 8x8": Kind(VQVAEConfig(grid=8)),
    "FSQ 8x8": Kind(replace(FSQ, grid=8)),
    "FSQ 8x8, curbs and car x 8": Kind(replace(FSQ, grid=8, rare_weight=8.0)),
    "categorical 4x4, score": Kind(CategoricalVAEConfig()),
    "categorical 4x4, straight-through": Kind(CategoricalVAEConfig(estimator="straight-through")),
    "VAE, curbs and car x 4, longer": Kind(replace(LIGHT, **CURBS), 2.4),
    "VQ 4x4, curbs and car x 4, longer": Kind(replace(VQVAEConfig(), **CURBS), 2.4),
    "FSQ 4x4, curbs and car x 4, longer": Kind(replace(FSQ, **CURBS), 2.4),
}


@dataclass(frozen=True)
class Frames:
    """Frames every agent step apart: uint8 (n, 64, 64, 3), and which of the held-out ones turn."""

    train: Tensor
    held_out: Tensor
    shown: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=96, help="of training frames (96)")
    parser.add_argument("--drives", type=int, default=16, help="of held-out frames (16)")
    parser.add_argument("--epochs", type=int, default=5, help="through the training frames (5)")
    parser.add_argument("--workers", type=int, default=2, help="V's trained side by side (2)")
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the frames here")
    arguments = parser.parse_args()
    frames = collect(arguments.episodes, arguments.drives, arguments.workers)
    spawn = multiprocessing.get_context("spawn")
    # A copy: handing a tensor to a process moves it, and a view of it would point at nothing.
    rows, pictures = {}, {"frame": frames.shown.numpy().copy()}
    with ProcessPoolExecutor(arguments.workers, mp_context=spawn) as executor:
        work = functools.partial(train, frames=frames, epochs=arguments.epochs)
        for name, (row, decoded) in zip(
            arguments.only, executor.map(work, arguments.only), strict=True
        ):
            rows[name], pictures[name] = row, decoded
    show(rows)
    if arguments.picture is not None:
        save_grid(arguments.picture, pictures, label_width=260)
    if arguments.json is not None:
        result = {
            "command": " ".join(["python", *sys.argv]),
            "episodes": arguments.episodes,
            "frames": len(frames.train),
            "held_out_frames": len(frames.held_out),
            "epochs": arguments.epochs,
            "versions": versions(),
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def collect(num_episodes: int, num_drives: int, num_workers: int) -> Frames:
    """Training frames of the exploring policy, held-out frames of the scripted driver."""
    policy = functools.partial(make_policy, "exploring", EnvConfig(DEFAULT_ENV_ID), Path())
    repeat = task_for(DEFAULT_ENV_ID).action_repeat
    with Workers(num_workers) as workers:
        explored = play_episodes(
            DEFAULT_ENV_ID, policy, seeds("training", num_episodes), workers=workers
        )
        train = np.concatenate([rollout.frames[::repeat] for rollout in explored])
    drives = [drive(seed) for seed in seeds("validation", num_drives)]
    held_out = np.concatenate([rollout.frames[::repeat] for rollout in drives])
    # A frame's turn is how far the wheel is turned around it.
    steering = [np.abs(rollout.actions[:, 0]) for rollout in drives]
    smooth = [np.convolve(np.append(s, 0), np.full(9, 1 / 9), "same")[::repeat] for s in steering]
    sharpest = pick_apart(np.concatenate(smooth), SHOWN // 2)
    ordinary = np.linspace(40, len(held_out) - 40, SHOWN - len(sharpest)).astype(int)
    shown = held_out[np.concatenate([ordinary, sharpest])]
    return Frames(torch.from_numpy(train), torch.from_numpy(held_out), torch.from_numpy(shown))


def pick_apart(values: np.ndarray, count: int, distinguishable: int = 60) -> np.ndarray:
    """Places of the largest values, at least so many frames from each other."""
    values, places = values.copy(), []
    for _ in range(count):
        place = int(values.argmax())
        places.append(place)
        values[max(0, place - distinguishable) : place + distinguishable] = -1
    return np.array(places)


def train(name: str, frames: Frames, epochs: int) -> tuple[dict[str, Any], np.ndarray]:
    """One V from random weights; its figures, and its reconstructions of the shown frames."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    colors = common_colors(frames.train[::5].numpy())
    kind = KINDS[name]
    vision = make_vision(replace(kind.config, common_colors=colors))
    vision.init_from_data(frames.train[::50])
    baseline = mean_frame(frames.train[::5])
    steps_an_epoch = len(frames.train) // BATCH_SIZE
    usage: list[dict[str, float]] = []

    def batch_at(step: int, generator: torch.Generator) -> Tensor:
        epoch, place = divmod(step, steps_an_epoch)
        order = np.random.default_rng([0, epoch]).permutation(len(frames.train))
        return frames.train[order[place * BATCH_SIZE : (place + 1) * BATCH_SIZE]]

    def on_step(step: int, metrics: dict[str, float]) -> None:
        if step % steps_an_epoch == 0 and "loss" in metrics and isinstance(vision, VQVAE):
            usage.append(epoch_usage(vision, frames.train))

    num_steps = round(kind.times_epochs * epochs) * steps_an_epoch
    config = FitConfig(
        num_steps,
        BATCH_SIZE,
        learning_rate=1e-3,
        final_learning_rate=1e-4,
        validate_every=num_steps,  # nothing is chosen by the held-out frames
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            vision,
            batch_at,
            lambda: {"loss": 0.0},
            config,
            seed=0,
            folder=Path(folder),
            on_step=on_step,
            checkpoint_seconds=1e9,
        )
    result = score_vision(vision, frames.held_out, baseline)
    result |= {
        "parameters": sum(p.numel() for p in vision.parameters()),
        "usage_an_epoch": usage,
    }
    with torch.no_grad():
        decoded = vision.decode(vision.mode(vision.encode(frames.shown))).numpy()
    return result, decoded


def epoch_usage(vision: Vision, frames: Tensor) -> dict[str, float]:
    """How V as it stands uses its codes over every training frame."""
    assert isinstance(vision, VQVAE)
    vision.eval()
    usage = code_usage(encode_frames(vision, frames.numpy()), vision.config.num_values)
    vision.train()
    return usage


def show(rows: dict[str, dict[str, Any]]) -> None:
    """The figures as a table; used and perplexity of held-out frames / of the last epoch."""
    first = next(iter(rows.values()))
    table = Table(title=f"V on held-out driving (mean frame: {first['mean_frame_error']:.1f})")
    columns = "V", "error", "foreground", "rare", "PSNR", "bits", "used", "perplexity"
    for column in columns:
        table.add_column(column, justify="left" if column == "V" else "right")
    for name, row in rows.items():
        codes = ["", "", ""]
        if row["usage_an_epoch"]:
            last = row["usage_an_epoch"][-1]
            codes = [
                f"{row['bits_per_frame']:.0f}",
                f"{row['codes_used']:.0%} / {last['codes_used']:.0%}",
                f"{row['perplexity']:.0f} / {last['perplexity']:.0f}",
            ]
        table.add_row(
            name,
            f"{row['error']:.1f}",
            f"{row['foreground_error']:.1f}",
            f"{row['rare_error']:.1f}",
            f"{row['psnr']:.1f}",
            *codes,
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
