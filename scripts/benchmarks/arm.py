"""MAP-Elites on the planar arm: evaluations per second, and whole generations beside plain pyribs.

Both searches have the same cells, batch and step sizes, and the line operator. Contenders take
turns; a figure is the median over the turns. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from ribs.archives import CVTArchive
from ribs.emitters import IsoLineEmitter
from ribs.schedulers import Scheduler
from rich.console import Console
from rich.table import Table

from agents.elites import ElitesConfig, MapElites, disc_centroids
from envs.arm import PlanarArm

JOINTS = (20, 200, 1_000)
CELLS, BATCH = 1_950, 100
EVALUATIONS = {20: 200_000, 200: 20_000, 1_000: 4_000}  # a turn's
WARM_UP = 300  # generations, after which most cells are filled


def evaluation_turns(joints: int) -> dict[str, Callable[[], float]]:
    """Evaluations a second, in one batch and one solution after the other."""
    arm = PlanarArm(joints)
    generator = np.random.default_rng(0)
    solutions = generator.uniform(-1, 1, (EVALUATIONS[joints], joints)).astype(np.float32)

    def batch() -> float:
        started = time.perf_counter()
        arm.evaluate(solutions)
        return len(solutions) / (time.perf_counter() - started)

    def one_by_one() -> float:
        some, started = solutions[:2_000], time.perf_counter()
        for solution in some:
            angles = solution * (np.pi / 2)
            headings = np.cumsum(angles)
            _ = (
                -np.std(angles),
                np.cos(headings).mean() / 2 + 0.5,
                np.sin(headings).mean() / 2 + 0.5,
            )
        return len(some) / (time.perf_counter() - started)

    return {"ours": batch, "peer": one_by_one}


def generation_turns(
    joints: int, centroids: np.ndarray, count: int
) -> dict[str, Callable[[], float]]:
    """Generations a second of MAP-Elites with the line operator: ours, and plain pyribs."""
    arm, config = PlanarArm(joints), ElitesConfig(batch_size=BATCH)
    ours = MapElites(joints, centroids, config)
    archive = CVTArchive(
        solution_dim=joints,
        centroids=centroids,
        ranges=[(0.0, 1.0), (0.0, 1.0)],
        solution_dtype=np.float32,
        objective_dtype=np.float64,
        measures_dtype=np.float64,
    )
    emitter = IsoLineEmitter(
        archive,
        iso_sigma=config.operators.iso_sigma,
        line_sigma=config.operators.line_sigma,
        x0=np.zeros(joints),
        bounds=[config.bounds] * joints,
        batch_size=BATCH,
        seed=0,
    )
    scheduler = Scheduler(archive, [emitter])

    def by_ours() -> None:
        ours.tell(*arm.evaluate(ours.ask()))

    def by_pyribs() -> None:
        scheduler.tell(*arm.evaluate(scheduler.ask()))

    def timed(generation: Callable[[], None]) -> Callable[[], float]:
        for _ in range(WARM_UP):
            generation()

        def turn() -> float:
            started = time.perf_counter()
            for _ in range(count):
                generation()
            return count / (time.perf_counter() - started)

        return turn

    return {"ours": timed(by_ours), "peer": timed(by_pyribs)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=7, help="of every contender (7)")
    parser.add_argument("--generations", type=int, default=200, help="of a turn (200)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, return its numbers."""
    centroids = disc_centroids(CELLS)
    contests = {f"evaluations, {joints:,} joints": evaluation_turns(joints) for joints in JOINTS}
    for joints in JOINTS:
        name = f"generations of {BATCH}, {joints:,} joints"
        contests[name] = generation_turns(joints, centroids, arguments.generations)
    rows = []
    for name, turns in contests.items():
        rates: dict[str, list[float]] = {contender: [] for contender in turns}
        for _ in range(arguments.turns):
            for contender, turn in turns.items():
                rates[contender].append(turn())
        ratios = [mine / other for mine, other in zip(rates["ours"], rates["peer"], strict=True)]
        rows.append(
            {
                "name": name,
                "a_second": statistics.median(rates["ours"]),
                "peer_a_second": statistics.median(rates["peer"]),
                "ratio": statistics.median(ratios),
            }
        )
    show(rows)
    return {
        "versions": {name: version(name) for name in ("ribs", "numpy")},
        "turns": arguments.turns,
        "rows": rows,
    }


def show(rows: list[dict[str, Any]]) -> None:
    title = "The planar arm; peers: NumPy, one solution a call; pyribs' scheduler and emitter"
    table = Table(title=title)
    for column in ("what", "a second", "peer", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['a_second']:,.0f}",
            f"{row['peer_a_second']:,.0f}",
            f"{row['ratio']:.2f}",
        )
    Console(width=100).print(table)
