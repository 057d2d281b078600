"""Stored episodes: speed of codecs, and training of V and M from stores far larger than memory.

Codecs take turns on the same frames, which are from episodes of the scripted driver. The stores
consist of many hard links to a few episodes of the scripted driver. A child process opens a store
and trains V or M on the store, with the stage that `wm train-vision` or `wm train-memory` calls. V
has the sizes of the preset `cpu`, and M has the sizes of the preset `paper`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2

from benchmarks import memory_training
from benchmarks.codecs import compare_codecs
from benchmarks.linked_store import EPISODES, STEPS, link_episodes, new_run, whole_episode
from benchmarks.own_process import in_own_process, peak_bytes
from benchmarks.turns import print_table
from worldmodels.data.batches import FrameBatches
from worldmodels.presets import preset_named
from worldmodels.progress import Report
from worldmodels.stages import train_vision as stage

OPTIONS = {
    "--episodes": (10_000, "episodes in the store"),
    "--steps": (1_200, "optimizer steps of V's training"),
    "--turns": (3, "turns per codec"),
    "--part": (("codecs", "vision", "memory"), "what to measure"),
    **memory_training.OPTIONS,
}
PACKAGES = ("numpy", "opencv-python-headless", "torch", "zstandard")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    cv2.setNumThreads(1)
    driven = [whole_episode(seed) for seed in range(EPISODES)]
    result: dict[str, Any] = {}
    if "codecs" in arguments.part:
        frames = [rollout.frames for rollout in driven[:2]]
        result["codecs"] = compare_codecs(frames, arguments.turns)
    if "vision" in arguments.part:
        with tempfile.TemporaryDirectory() as folder:
            link_episodes(Path(folder), driven, arguments.episodes)
            result["training"] = in_own_process(train_from, Path(folder), arguments.steps)
        print_table(
            "V, every fourth frame, and its reader; "
            f"limit of the process {memory_training.LIMIT / 1e6:,.0f} MB",
            {
                "episodes": ("episodes", ","),
                "gigabytes_on_disk": ("GB without hard links", ".1f"),
                "open_seconds": ("opened in, s", ".1f"),
                "images_learned_per_second": ("images/s learned", ",.0f"),
                "images_read_per_second": ("images/s read", ",.0f"),
                "waiting_fraction": ("waiting for frames", ".1%"),
                "peak_megabytes": ("peak, MB", ",.0f"),
            },
            [result["training"]],
        )
    if "memory" in arguments.part:
        # As the paper counts them, one agent step per frame.
        single = [replace(rollout, action_repeat=1) for rollout in driven]
        with tempfile.TemporaryDirectory() as folder:
            result["memory"] = memory_training.weigh(arguments, Path(folder), single)
    return result


def train_from(folder: Path, steps: int) -> dict[str, Any]:
    """Open the store, train V on the store, and measure the speeds and the memory."""
    made: list[FrameBatches] = []

    def watched(*arguments: Any, **settings: Any) -> FrameBatches:
        made.append(FrameBatches(*arguments, **settings))
        return made[-1]

    run = new_run(folder, "cpu")
    start = time.perf_counter()
    episodes = len(run.store)
    opening = time.perf_counter() - start
    config = preset_named("cpu").vision(False).with_steps(steps)
    config = replace(config, fit=replace(config.fit, validate_every=10 * steps))
    with mock.patch.object(stage, "FrameBatches", watched):
        result = stage.train_vision(run, config, report=Report(quiet=True))
    train = max(made, key=lambda each: each.num_frames)
    learned = steps * config.fit.batch_size / result["training_seconds"]
    reader = train.frames_read / train.seconds_read
    return {
        "episodes": episodes,
        "frames": (STEPS + 1) * episodes,
        "gigabytes_on_disk": sum(episode.num_bytes for episode in run.store) / 1e9,
        "open_seconds": opening,
        "images_learned_per_second": learned,
        "images_read_per_second": reader,
        "times_v": reader / learned,
        "frames_decompressed_per_second": reader * train.stride,
        "waiting_fraction": train.seconds_waited / result["training_seconds"],
        "peak_megabytes": peak_bytes() / 1e6,
    }
