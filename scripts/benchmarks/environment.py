"""CarRacing: Gymnasium's, EnvPool's and ours; steps, resets and memory.

All drive random actions. Contenders take turns, so that a machine that slows down slows all
of them; steps are counted without resets, which are timed apart.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.table import Table

from envs.make import make_env, make_envs
from envs.tasks import DEFAULT_ENV_ID

STOCK_ID = "CarRacing-v3"
EPISODE = 1000  # env steps
WARM_UP = 3  # episodes that are not counted: caches fill, processes start
VECTOR_SIZE = 64  # environments in lockstep: a population
COPIES = 8  # environments whose memory is weighed
STATM = Path("/proc/self/statm")  # Linux: pages in memory are its second number
LOW, HIGH = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0])


@dataclass
class Contender:
    """One way to step CarRacing, and what was measured of it."""

    name: str
    pixels: str
    make: Callable[[], Any]
    num_envs: int = 0  # 0: a single Gymnasium env, no vector
    workers: int = 1  # processes or threads that step
    takes_seeds: bool = True
    rates: list[float] = field(default_factory=list)  # env steps per second, one a turn
    resets: list[float] = field(default_factory=list)  # seconds
    _env: Any = None

    def take_turn(self, seconds: float, turn: int) -> None:
        """Step for so long, in as many episodes as that takes."""
        if self._env is None:
            self._env = self.make()
            for episode in range(WARM_UP):
                self._play(seconds=3.0, seed=episode)
            self.resets.clear()
        steps, elapsed, episode = 0, 0.0, 0
        while elapsed < seconds:
            # Every episode of its own: a track seen before is in the processor's caches.
            played = self._play(seconds - elapsed, seed=1000 * (1 + turn) + episode)
            steps, elapsed, episode = steps + played[0], elapsed + played[1], episode + 1
        self.rates.append(steps / elapsed)

    def close(self) -> None:
        self._env.close()

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def reset_seconds(self) -> float | None:
        return statistics.median(self.resets) if self.num_envs <= 1 else None

    @property
    def episode_rate(self) -> float | None:
        """Env steps per second where every 1,000 of them need a reset."""
        if self.reset_seconds is None:
            return None
        return EPISODE / (EPISODE / self.rate + self.reset_seconds)

    def _play(self, seconds: float, seed: int) -> tuple[int, float]:
        """Env steps of one episode, or what there is time for, and how long they took."""
        start = time.perf_counter()
        self._env.reset(**({"seed": seed} if self.takes_seeds else {}))
        self.resets.append(time.perf_counter() - start)
        # Short of the limit, where vectors would reset by themselves.
        shape = (EPISODE - 10, self.num_envs, 3) if self.num_envs else (EPISODE - 10, 3)
        actions = np.random.default_rng(seed).uniform(LOW, HIGH, shape).astype(np.float32)
        start = now = time.perf_counter()
        steps = 0
        for action in actions:
            result = self._env.step(action)
            steps += 1
            now = time.perf_counter()
            if now - start > seconds or (not self.num_envs and result[2]):
                break
        return steps * max(self.num_envs, 1), now - start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=9, help="of every contender (default 9)")
    parser.add_argument("--seconds", type=float, default=1.0, help="a turn (default 1)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, return its numbers."""
    cv2.setNumThreads(1)
    contenders = list_contenders()
    if not any(contender.name.startswith("EnvPool") for contender in contenders):
        Console().print('EnvPool is left out: pip install "worldmodels-gym[bench]" brings it')
    for turn in range(arguments.turns):
        for contender in contenders:
            contender.take_turn(arguments.seconds, turn)
    for contender in contenders:
        contender.close()
    rows = _compare(contenders)
    _print(rows)
    packages = ("gymnasium", "Box2D", "pygame-ce", "opencv-python-headless", "envpool")
    return {
        "versions": {name: _version(name) for name in packages},
        "turns": arguments.turns,
        "seconds_a_turn": arguments.seconds,
        "rows": rows,
    }


def list_contenders() -> list[Contender]:
    """Peers first; EnvPool's only where it is installed."""
    peers = [
        Contender("Gymnasium", "96x96", lambda: gym.make(STOCK_ID)),
        Contender("Gymnasium, cut and resized", "64x64", lambda: make_env(STOCK_ID)),
        Contender("Gymnasium, AsyncVectorEnv", "96x96", _two_processes, num_envs=2, workers=2),
    ]
    if importlib.util.find_spec("envpool") is not None:
        peers += [
            Contender(
                "EnvPool" if num_envs == 1 else f"EnvPool, {num_envs} envs",
                "96x96",
                functools.partial(_envpool, num_envs, threads),
                num_envs,
                threads,
                takes_seeds=False,  # only when made
            )
            for num_envs, threads in ((1, 1), (16, 1), (16, 2))
        ]
    ours = [
        Contender("worldmodels", "96x96", lambda: gym.make(DEFAULT_ENV_ID, view="stock")),
        Contender("worldmodels", "64x64", lambda: gym.make(DEFAULT_ENV_ID)),
    ]
    return [
        *peers,
        *ours,
        *(
            Contender(
                f"worldmodels, {VECTOR_SIZE} envs",
                "64x64",
                functools.partial(make_envs, VECTOR_SIZE, workers),
                VECTOR_SIZE,
                workers,
            )
            for workers in (1, 2)
        ),
    ]


def _two_processes() -> gym.vector.VectorEnv[Any, Any, Any]:
    return gym.make_vec(STOCK_ID, num_envs=2, vectorization_mode="async")


def _envpool(num_envs: int, threads: int) -> Any:
    import envpool

    return envpool.make(
        STOCK_ID, env_type="gymnasium", num_envs=num_envs, num_threads=threads, batch_size=num_envs
    )


def _memory(index: int) -> float | None:
    """MB an environment, in a process of its own; None for vectors, and where it is not told."""
    if list_contenders()[index].num_envs > 1 or not STATM.exists():
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(weigh, index).result()


def weigh(index: int) -> float:
    """How much the process grows by an environment that was reset and stepped."""
    contender = list_contenders()[index]
    action = np.zeros((1, 3) if contender.num_envs else 3, dtype=np.float32)
    kept, sizes = [], []
    for _ in range(1 + COPIES):
        env = contender.make()
        env.reset()
        env.step(action)
        kept.append(env)
        sizes.append(int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return (sizes[-1] - sizes[0]) / COPIES / 1e6


def _compare(contenders: list[Contender]) -> list[dict[str, Any]]:
    """A row a contender; ratios are per worker, against Gymnasium's env and EnvPool's thread."""
    gymnasium = contenders[0]
    assert gymnasium.episode_rate is not None, "it steps one env after another"
    threads = [c.rate for c in contenders if c.name.startswith("EnvPool") and c.workers == 1]
    rows = []
    for index, contender in enumerate(contenders):
        rate, episode_rate = contender.rate / contender.workers, contender.episode_rate
        rows.append(
            {
                "name": contender.name,
                "pixels": contender.pixels,
                "workers": contender.workers,
                "steps_per_second": contender.rate,
                "times_gymnasium": rate / gymnasium.rate,
                "times_envpool": rate / max(threads) if threads else None,
                "reset_milliseconds": _ratio(contender.reset_seconds, 1e-3),
                "times_gymnasium_with_resets": _ratio(episode_rate, gymnasium.episode_rate),
                "megabytes": _memory(index),
            }
        )
    return rows


def _ratio(value: float | None, of: float | None) -> float | None:
    return None if value is None or of is None else value / of


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(title="CarRacing-v3, random actions; ratios are per worker")
    headings = {
        "name": "",
        "pixels": "pixels",
        "workers": "workers",
        "steps_per_second": "steps/s",
        "times_gymnasium": "x Gymnasium",
        "times_envpool": "x EnvPool",
        "times_gymnasium_with_resets": "x Gymnasium, resets included",
        "reset_milliseconds": "reset, ms",
        "megabytes": "MB an env",
    }
    for heading in headings.values():
        table.add_column(heading, justify="left" if heading in ("", "pixels") else "right")
    for row in rows:
        cells = []
        for name in headings:
            value = row[name]
            decimals = 0 if name == "steps_per_second" else 1
            cells.append(f"{value:,.{decimals}f}" if isinstance(value, float) else str(value or ""))
        table.add_row(*cells)
    console = Console(width=max(120, Console().width))
    console.print(table)
    one, two = rows[-2], rows[-1]
    scaling = two["steps_per_second"] / one["steps_per_second"]
    console.print(f"two workers step {scaling:.2f} times as fast as one")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
