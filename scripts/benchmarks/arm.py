"""MAP-Elites on the planar arm: speeds of evaluations and generations, compared with peers.

Our search and the search of pyribs use the same cells, batch size, step sizes and operator (the
line operator). Contenders take turns. Each number is the median over the turns. Everything runs in
one thread.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import numpy as np
from ribs.emitters import IsoLineEmitter
from ribs.schedulers import Scheduler

from agents.elites import ElitesConfig, MapElites, disc_centroids
from benchmarks.turns import Work, compare
from envs.arm import PlanarArm

EVALUATIONS = {20: 200_000, 200: 20_000, 1_000: 4_000}  # joints -> evaluations per turn
CELLS, BATCH = 1_950, 100
WARM_UP = 300  # generations, after which most cells are filled

OPTIONS = {"--turns": (7, "turns per contender"), "--generations": (200, "generations per turn")}
PACKAGES = ("ribs", "numpy")


def evaluations(joints: int) -> tuple[Work, Work]:
    """Return two contenders: evaluation in one batch, and evaluation of one solution per call."""
    arm = PlanarArm(joints)
    generator = np.random.default_rng(0)
    solutions = generator.uniform(-1, 1, (EVALUATIONS[joints], joints)).astype(np.float32)

    def batch() -> int:
        arm.evaluate(solutions)
        return len(solutions)

    def one_by_one() -> int:
        for solution in solutions[:2_000]:
            angles = solution * (np.pi / 2)
            headings = np.cumsum(angles)
            _ = -np.std(angles)
            _ = np.cos(headings).mean() / 2 + 0.5, np.sin(headings).mean() / 2 + 0.5
        return 2_000

    return batch, one_by_one


def generations(joints: int, centroids: np.ndarray, count: int) -> tuple[Work, Work]:
    """Return two contenders: generations of our MAP-Elites, and those of pyribs' MAP-Elites."""
    arm, config = PlanarArm(joints), ElitesConfig(batch_size=BATCH)
    archive = MapElites(joints, centroids, config).archive
    emitter = IsoLineEmitter(
        archive,
        **asdict(config.operators),
        x0=np.zeros(joints),
        bounds=[config.bounds] * joints,
        batch_size=BATCH,
        seed=0,
    )

    def work_of(search: MapElites | Scheduler) -> Work:
        def advance(generations: int = count) -> int:
            for _ in range(generations):
                search.tell(*arm.evaluate(search.ask()))
            return generations

        advance(WARM_UP)
        return advance

    return work_of(MapElites(joints, centroids, config)), work_of(Scheduler(archive, [emitter]))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    centroids = disc_centroids(CELLS)
    contests = [(f"evaluations, {joints:,} joints", *evaluations(joints)) for joints in EVALUATIONS]
    for joints in EVALUATIONS:
        name = f"generations of {BATCH}, {joints:,} joints"
        contests.append((name, *generations(joints, centroids, arguments.generations)))
    title = "The planar arm; peers: NumPy with one solution per call, and pyribs' MAP-Elites"
    return {"rows": compare(title, ("what", "per second", "peer"), contests, arguments.turns)}
