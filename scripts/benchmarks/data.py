"""Stored episodes: codecs side by side, and V and M trained from stores far larger than memory.

Codecs take turns over frames of driven episodes. The stores are a few of those, hard-linked as
often as asked; a child process opens one and trains on it, by the stage that `wm train-vision` or
`wm train-memory` calls: the `cpu` preset's V, the `paper` preset's M.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from agents.rollout import Rollout
from agents.scripted_episodes import drive
from benchmarks import memory_training
from benchmarks.codecs import compare_codecs, print_codecs
from envs.tasks import DEFAULT_ENV_ID
from worldmodels.data.store import EpisodeStore, file_name

STEPS = 1000
PARTS = ("codecs", "vision", "memory")
EPISODES = 4  # really driven
MEMORY_LIMIT = 2 * 2**30  # of a process that trains V, in bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=int, default=10_000, help="in the store (10,000)")
    parser.add_argument("--steps", type=int, default=1_200, help="of V's training (1,200)")
    parser.add_argument("--turns", type=int, default=3, help="of every codec (3)")
    parser.add_argument(
        "--part", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all of it)"
    )
    memory_training.add_arguments(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the tables, return their numbers."""
    cv2.setNumThreads(1)
    driven = [whole_episode(seed) for seed in range(EPISODES)]
    packages = ("numpy", "opencv-python-headless", "torch", "zstandard")
    result: dict[str, Any] = {"versions": {name: version(name) for name in packages}}
    if "codecs" in arguments.part:
        result["codecs"] = compare_codecs(
            [rollout.frames for rollout in driven[:2]], arguments.turns
        )
        print_codecs(result["codecs"])
    if "vision" in arguments.part:
        with tempfile.TemporaryDirectory() as folder:
            link_store(Path(folder) / "episodes", driven, arguments.episodes)
            result["training"] = memory_training.alone(train_from, Path(folder), arguments.steps)
        print_training(result["training"])
    if "memory" in arguments.part:
        single = [memory_training.without_action_repeat(rollout) for rollout in driven]
        with tempfile.TemporaryDirectory() as folder:
            result["memory"] = memory_training.weigh(
                arguments, Path(folder), lambda place, count: link_store(place, single, count)
            )
    return result


def whole_episode(seed: int) -> Rollout:
    """A drive of 1,000 steps, beginning again from its first frame where the lap ends early."""
    driven = drive(seed, top_speed=62.0, cornering=95.0)
    return dataclasses.replace(
        driven,
        frames=np.resize(driven.frames, (STEPS + 1, *driven.frames.shape[1:])),
        actions=np.resize(driven.actions, (STEPS, 3)),
        rewards=np.resize(driven.rewards, STEPS),
        terminated=False,
        truncated=True,
    )


def link_store(folder: Path, driven: list[Rollout], episodes: int) -> None:
    """A store of so many episodes, in fact the same few again and again."""
    store = EpisodeStore(folder)
    for index, rollout in enumerate(driven):
        if not (folder / file_name(index)).exists():
            store.add(index, rollout, round=1)
    for index in range(len(driven), episodes):
        if not (folder / file_name(index)).exists():
            os.link(folder / file_name(index % len(driven)), folder / file_name(index))


def train_from(folder: Path, steps: int) -> dict[str, Any]:
    """In a process of its own: open the store, train V from it, and weigh the process."""
    import worldmodels.stages.train_vision as stage
    from worldmodels.data.batches import FrameBatches
    from worldmodels.presets import preset_named
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.runs.run_settings import RunSettings

    batches: list[FrameBatches] = []

    class Watched(FrameBatches):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            batches.append(self)

    vars(stage)["FrameBatches"] = Watched
    run = Run(folder, new=RunSettings(DEFAULT_ENV_ID, "cpu", 0))
    run.create()
    start = time.perf_counter()
    episodes = len(run.store)
    opening = time.perf_counter() - start
    config = preset_named("cpu").vision(False).with_steps(steps)
    config = dataclasses.replace(
        config, fit=dataclasses.replace(config.fit, validate_every=10 * steps)
    )
    result = stage.train_vision(run, config, report=Report(quiet=True))
    train = max(batches, key=lambda each: each.num_frames)
    learned = steps * config.fit.batch_size / result["training_seconds"]
    reader = train.frames_read / train.seconds_read
    return {
        "episodes": episodes,
        "frames": (STEPS + 1) * episodes,
        "gigabytes_on_disk": sum(episode.num_bytes for episode in run.store) / 1e9,
        "open_seconds": opening,
        "steps": steps,
        "images_learned_a_second": learned,
        "images_read_a_second": reader,
        "times_v": reader / learned,
        "frames_decompressed_a_second": reader * train.stride,
        "waiting_fraction": train.seconds_waited / result["training_seconds"],
        "peak_megabytes": memory_training.peak_bytes() / 1e6,
    }


def print_training(summary: dict[str, Any]) -> None:
    share, peak = summary["waiting_fraction"], summary["peak_megabytes"]
    for line in (
        f"{summary['episodes']:,} episodes, {summary['frames']:,} frames: opened in "
        f"{summary['open_seconds']:.1f} s, {summary['gigabytes_on_disk']:.1f} GB were they not "
        "links",
        f"V learned {summary['images_learned_a_second']:,.0f} images/s, every fourth frame; beside "
        f"it the reader gave {summary['images_read_a_second']:,.0f}: {summary['times_v']:.1f} "
        "times "
        "as many",
        f"waiting for frames, the first ones included: {share:.1%} of the training",
        f"peak memory of the process {peak:,.0f} MB, limit {MEMORY_LIMIT / 1e6:,.0f}",
    ):
        Console(highlight=False, soft_wrap=True).print(line)
