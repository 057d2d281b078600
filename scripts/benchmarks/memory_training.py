"""Peak memory of the training of the paper's M, with a store and with a store four times as large.

The stores consist of many hard links to a few driven episodes. Equal files have equal digests, so
the stage finds the cached encodings of the driven episodes. V therefore does not encode the whole
store, which would take half an hour for four million frames. Every episode gets its own copy of the
encodings, so that training takes as much memory as it would take for different episodes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from agents.rollout import Rollout
from benchmarks.linked_store import link_episodes, new_run
from benchmarks.own_process import in_own_process, peak_bytes
from worldmodels.memory import encoding
from worldmodels.presets import preset_named
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.stages import train_memory as memory_stage
from worldmodels.stages import train_vision as vision_stage
from worldmodels.vision import load_vision

LIMIT = 2 * 2**30  # bytes of memory of a process that trains V or M
GROWTH = 1.1  # of memory, at most, from the smaller store to one with four times the agent steps
VISION_STEPS = 20  # so that frames differ in their codes

OPTIONS = {
    "--memory-episodes": (1_000, "episodes in the smaller of M's two stores"),
    "--memory-kinds": (("latents", "codes"), "kinds of M"),
    "--memory-steps": (4, "optimizer steps of M's training"),
}


def weigh(
    arguments: argparse.Namespace, folder: Path, driven: Sequence[Rollout]
) -> list[dict[str, Any]]:
    """Measure, print and return the peak memory for each kind of M and for both stores."""
    rows: list[dict[str, Any]] = []
    for kind in arguments.memory_kinds:
        run, quantized = folder / kind, kind == "codes"
        link_episodes(run, driven, 0)
        in_own_process(train_vision, run, quantized)
        for episodes in (arguments.memory_episodes, 4 * arguments.memory_episodes):
            link_episodes(run, driven, episodes)
            row = in_own_process(train_memory, run, quantized, arguments.memory_steps)
            rows.append(row)
            print(
                f"M over {kind}, {row['agent_steps']:,} agent steps: peak memory of the process "
                f"{row['peak_megabytes']:,.0f} MB, planned {row['planned_megabytes']:,.0f}, limit "
                f"{LIMIT / 1e6:,.0f}; {row['seconds']:,.0f} s"
            )
        growth = rows[-1]["peak_megabytes"] / rows[-2]["peak_megabytes"]
        verdict = "" if growth <= GROWTH else f", more than {GROWTH - 1:.0%}"
        print(f"four times the agent steps: {growth - 1:+.1%}{verdict}")
    return rows


def train_vision(folder: Path, quantized: bool) -> None:
    """Train V of the preset `paper` for a few steps on the driven episodes."""
    config = preset_named("paper").vision(quantized).with_steps(VISION_STEPS)
    vision_stage.train_vision(new_run(folder, "paper"), config, report=Report(quiet=True))


class CopiedEncodings(encoding.Encodings):
    """A cache of encodings that returns a separate copy for every episode."""

    def of(self, *arguments: Any, **settings: Any) -> Iterator[np.ndarray]:
        return (records.copy() for records in super().of(*arguments, **settings))


def train_memory(folder: Path, quantized: bool, steps: int) -> dict[str, Any]:
    """Train M of the preset `paper` for a few steps with M's stage; return the peak memory."""
    run = Run(folder)
    vision = load_vision(run)
    different = {episode.digest: episode for episode in run.store}
    encodings, episodes = run.cached(CopiedEncodings), list(different.values())
    encoding.encode_dataset(vision, episodes, run.action_repeat, encodings=encodings)
    config = preset_named("paper").memory.with_steps(steps)
    report = Report(quiet=True)
    start = time.perf_counter()
    with (
        mock.patch.object(encoding, "Encodings", CopiedEncodings),
        mock.patch.object(report, "estimate") as estimate,
    ):
        result = memory_stage.train_memory(run, config, report=report)
    peak = peak_bytes()
    return {
        "kind": "codes" if quantized else "latents",
        "agent_steps": sum(episode.num_steps for episode in run.store),
        "seconds": time.perf_counter() - start,
        "seconds_per_optimizer_step": result["training_seconds"] / steps,
        "peak_megabytes": peak / 1e6,
        "planned_megabytes": estimate.call_args.kwargs["memory_bytes"] / 1e6,
        "within_limit": peak <= LIMIT,
        "nll": result["nll"],
    }
