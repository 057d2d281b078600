"""Speeds of steps and of resets, and memory, for Gymnasium's, EnvPool's and our CarRacing.

All environments execute random actions. Contenders take turns, so that all contenders become slower
if the machine becomes slower. Rates of steps exclude resets. The time of resets is measured
separately.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

from benchmarks.own_process import in_own_process
from benchmarks.turns import print_table, take_turns
from envs.make import make_env, make_envs
from envs.tasks import DEFAULT_ENV_ID

STOCK_ID = "CarRacing-v3"
EPISODE = 1000  # env steps
WARM_UP = 3.0  # seconds that are not timed, while caches fill and processes start
VECTOR_SIZE = 64  # environments in lockstep: a population
COPIES = 8  # environments whose memory is measured
STATM = Path("/proc/self/statm")  # Linux: pages in memory are its second number
LOW, HIGH = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0])

OPTIONS = {"--turns": (9, "turns per contender"), "--seconds": (1.0, "seconds per turn")}
PACKAGES = ("gymnasium", "Box2D", "pygame-ce", "opencv-python-headless", "envpool")
COLUMNS = {
    "name": ("", ""),
    "pixels": ("pixels", ""),
    "workers": ("workers", ""),
    "steps_per_second": ("steps/s", ",.0f"),
    "times_gymnasium": ("x Gymnasium", ".1f"),
    "times_envpool": ("x EnvPool", ".1f"),
    "times_gymnasium_with_resets": ("x Gymnasium, resets included", ".1f"),
    "reset_milliseconds": ("reset, ms", ".1f"),
    "megabytes": ("MB per env", ".1f"),
}


@dataclass
class Contender:
    """One way to step CarRacing, with the measurements of this way."""

    name: str
    pixels: str
    make: Callable[[], Any]
    num_envs: int = 0  # 0: a single Gymnasium env, no vector
    workers: int = 1  # processes or threads that step
    rate: float = 0.0  # env steps per second
    resets: list[float] = field(default_factory=list)  # seconds
    # Every episode has its own seed, as a repeated track is in the processor's caches.
    seeds: Iterator[int] = field(default_factory=itertools.count)

    @cached_property
    def env(self) -> Any:
        return self.make()

    @property
    def episode_seconds(self) -> float:
        """Seconds that a reset and 1,000 env steps take."""
        return EPISODE / self.rate + statistics.median(self.resets)

    def turn(self, seconds: float) -> float:
        """Step for `seconds` seconds, in one or more episodes; return the env steps per second."""
        steps, elapsed = 0, 0.0
        while elapsed < seconds:
            seed, start = next(self.seeds), time.perf_counter()
            # EnvPool takes seeds only when it is made.
            self.env.reset(**({} if self.name.startswith("EnvPool") else {"seed": seed}))
            self.resets.append(time.perf_counter() - start)
            # Episodes end before the limit, where vectors would reset by themselves.
            shape = (EPISODE - 10, self.num_envs, 3) if self.num_envs else (EPISODE - 10, 3)
            actions = np.random.default_rng(seed).uniform(LOW, HIGH, shape).astype(np.float32)
            for action in actions:
                start = time.perf_counter()
                result = self.env.step(action)
                elapsed += time.perf_counter() - start
                steps += max(self.num_envs, 1)
                if elapsed > seconds or (not self.num_envs and result[2]):
                    break
        return steps / elapsed


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    cv2.setNumThreads(1)
    contenders = list_contenders()
    for contender in contenders:
        contender.turn(WARM_UP)
        contender.resets.clear()
    turns = [partial(contender.turn, arguments.seconds) for contender in contenders]
    for contender, rates in zip(contenders, take_turns(turns, arguments.turns), strict=True):
        contender.rate = float(np.median(rates))
        contender.env.close()
    rows = compare(contenders)
    print_table("CarRacing-v3, random actions; ratios are per worker", COLUMNS, rows)
    one, two = contenders[-2:]
    print(f"two workers step {two.rate / one.rate:.2f} times as fast as one")
    return {"rows": rows}


def list_contenders() -> list[Contender]:
    """Return the contenders, peers first. EnvPool is a contender only if EnvPool is installed."""
    pair = partial(gym.make_vec, STOCK_ID, num_envs=2, vectorization_mode="async")
    contenders = [
        Contender("Gymnasium", "96x96", partial(gym.make, STOCK_ID)),
        Contender("Gymnasium, cut and resized", "64x64", partial(make_env, STOCK_ID)),
        Contender("Gymnasium, AsyncVectorEnv", "96x96", pair, num_envs=2, workers=2),
    ]
    if importlib.util.find_spec("envpool") is not None:
        for count, threads in ((1, 1), (16, 1), (16, 2)):
            name = "EnvPool" if count == 1 else f"EnvPool, {count} envs"
            make = partial(_envpool, count, threads)
            contenders.append(Contender(name, "96x96", make, count, threads))
    else:
        print('EnvPool is left out: pip install "worldmodels-gym[bench]" installs it')
    contenders += [
        Contender("worldmodels", "96x96", partial(gym.make, DEFAULT_ENV_ID, view="stock")),
        Contender("worldmodels", "64x64", partial(gym.make, DEFAULT_ENV_ID)),
    ]
    for workers in (1, 2):
        name, make = f"worldmodels, {VECTOR_SIZE} envs", partial(make_envs, VECTOR_SIZE, workers)
        contenders.append(Contender(name, "64x64", make, VECTOR_SIZE, workers))
    return contenders


def _envpool(num_envs: int, threads: int) -> Any:
    import envpool

    return envpool.make(
        STOCK_ID, env_type="gymnasium", num_envs=num_envs, num_threads=threads, batch_size=num_envs
    )


def compare(contenders: list[Contender]) -> list[dict[str, Any]]:
    """Return one row per contender.

    A ratio is a contender's speed per worker, divided by the speed of one Gymnasium environment or
    by EnvPool's best speed on one thread. Resets and memory are given only for contenders with one
    environment, and memory is given only on Linux.
    """
    gymnasium = contenders[0]
    threads = [c.rate for c in contenders if c.name.startswith("EnvPool") and c.workers == 1]
    rows = []
    for each in contenders:
        rate = each.rate / each.workers
        row = dict.fromkeys(COLUMNS) | {
            "name": each.name,
            "pixels": each.pixels,
            "workers": each.workers,
            "steps_per_second": each.rate,
            "times_gymnasium": rate / gymnasium.rate,
            "times_envpool": rate / max(threads) if threads else None,
        }
        if each.num_envs <= 1:
            row["times_gymnasium_with_resets"] = gymnasium.episode_seconds / each.episode_seconds
            row["reset_milliseconds"] = 1000 * statistics.median(each.resets)
            if STATM.exists():
                row["megabytes"] = in_own_process(weigh, each.make, each.num_envs)
        rows.append(row)
    return rows


def weigh(make: Callable[[], Any], num_envs: int) -> float:
    """Return the megabytes of memory that one environment takes after a reset and a step."""
    action = np.zeros((1, 3) if num_envs else 3, dtype=np.float32)
    kept, sizes = [], []
    for _ in range(1 + COPIES):
        kept.append(make())
        kept[-1].reset()
        kept[-1].step(action)
        sizes.append(int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return (sizes[-1] - sizes[0]) / COPIES / 1e6
