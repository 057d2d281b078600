"""M trained at the paper's sizes from two stores, one four times as large, each process weighed.

The stores are a few driven episodes, hard-linked as often as asked. Equal files have equal
digests, so the stage finds the encodings of the few it has seen: what is left out is the time of
V, half an hour for four million frames. Every episode gets a copy of its own, as it would if all
files were different, so nothing is left out of what M's stage holds.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

KINDS = ("latents", "codes")
LIMIT = 2 * 2**30  # of a process that trains M, in bytes
GROWTH = 1.1  # at most, from the smaller store to one of four times as many agent steps
VISION_STEPS = 20  # so that frames differ in their codes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory-episodes", type=int, default=1_000, help="in the smaller store of M (1,000)"
    )
    parser.add_argument(
        "--memory-kinds", nargs="+", choices=KINDS, default=KINDS, help="of M (both)"
    )
    parser.add_argument("--memory-steps", type=int, default=4, help="of M's training (4)")


def weigh(arguments: argparse.Namespace, folder: Path, link: Any) -> list[dict[str, Any]]:
    """Figures of both kinds and both stores.

    Args:
        link: makes the store of a folder as large as asked, see `data.link_store`.
    """
    rows = []
    for kind in arguments.memory_kinds:
        run, quantized = folder / kind, kind == "codes"
        link(run / "episodes", 0)
        alone(train_vision, run, quantized)
        for episodes in (arguments.memory_episodes, 4 * arguments.memory_episodes):
            link(run / "episodes", episodes)
            rows.append(alone(train_memory, run, quantized, arguments.memory_steps))
            print_row(rows[-1])
        growth = rows[-1]["peak_megabytes"] / rows[-2]["peak_megabytes"]
        verdict = "" if growth <= GROWTH else f", more than {GROWTH - 1:.0%}"
        Console(highlight=False).print(f"four times the agent steps: {growth - 1:+.1%}{verdict}")
    return rows


def alone(function: Any, *arguments: Any) -> Any:
    """The result of a function in a process of its own, whose peak memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        return executor.submit(function, *arguments).result()


def train_vision(folder: Path, quantized: bool) -> None:
    """The paper preset's V, hardly trained, from the few episodes there really are."""
    from envs.tasks import DEFAULT_ENV_ID
    from worldmodels.presets import preset_named
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.runs.run_settings import RunSettings
    from worldmodels.stages import train_vision as vision

    run = Run(folder, new=RunSettings(DEFAULT_ENV_ID, "paper", 0))
    run.create()
    config = preset_named("paper").vision(quantized).with_steps(VISION_STEPS)
    vision.train_vision(run, config, report=Report(quiet=True))


def train_memory(folder: Path, quantized: bool, steps: int) -> dict[str, Any]:
    """Train the paper preset's M for a few steps by its stage, and weigh the process."""
    from worldmodels.memory.encoding import Encodings, encode_dataset
    from worldmodels.presets import preset_named
    from worldmodels.progress import Report
    from worldmodels.runs.checkpoint import load_checkpoint
    from worldmodels.runs.run import Run
    from worldmodels.stages import train_memory as memory
    from worldmodels.vision import restore_vision

    plans: list[float] = []

    class Watched(Report):
        def estimate(self, what: str, **summary: Any) -> None:
            plans.append(summary["memory_bytes"])
            super().estimate(what, **summary)

    class Copied(Encodings):
        def of(self, *arguments: Any, **settings: Any) -> Any:
            found = super().of(*arguments, **settings)
            return (records.copy() for records in found)

    run = Run(folder)
    vars(run)["encodings"] = Copied()
    path = run.weights("vision")
    vision = restore_vision(load_checkpoint(path, hint=""), path)
    different = {episode.digest: episode for episode in run.store}
    cached = run.cached(Encodings)
    encode_dataset(vision, list(different.values()), run.action_repeat, encodings=cached)
    config = preset_named("paper").memory.with_steps(steps)
    start = time.perf_counter()
    result = memory.train_memory(run, config, report=Watched(quiet=True))
    peak = peak_bytes()
    return {
        "kind": "codes" if quantized else "latents",
        "agent_steps": sum(episode.num_steps for episode in run.store),
        "steps": steps,
        "batch_size": config.fit.batch_size,
        "seconds": time.perf_counter() - start,
        "seconds_per_optimizer_step": result["training_seconds"] / steps,
        "peak_megabytes": peak / 1e6,
        "planned_megabytes": plans[0] / 1e6,
        "within_limit": peak <= LIMIT,
        "nll": result["nll"],
    }


def print_row(summary: dict[str, Any]) -> None:
    Console(highlight=False, soft_wrap=True).print(
        f"M over {summary['kind']}, {summary['agent_steps']:,} agent steps: peak memory of the "
        f"process {summary['peak_megabytes']:,.0f} MB, planned "
        f"{summary['planned_megabytes']:,.0f}, "
        f"limit {LIMIT / 1e6:,.0f}; {summary['seconds']:,.0f} s"
    )


def without_action_repeat(rollout: Any) -> Any:
    """The same rollout as the paper counts it, one agent step per frame."""
    return dataclasses.replace(rollout, action_repeat=1)


def peak_bytes() -> int:
    """Most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
