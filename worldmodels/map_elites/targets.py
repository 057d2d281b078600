"""Tests of a discovered representation: it should reach targets in few evaluations.

A target is a point in the space of measures. CMA-ES searches for a solution with these measures,
among the solutions themselves or among the codes of an autoencoder of elites. Codes stand for
solutions that resemble elites.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from agents.cmaes import CMAES
from agents.operators import Solutions
from envs.arm import PlanarArm
from worldmodels.map_elites.autoencoders import SolutionAutoencoder

# Source: arXiv 2003.04389, section 4.3, and its code.
TARGETS = np.array(
    [
        (0.73077, 0.5), (0.61538, 0.69985), (0.38462, 0.69985), (0.26923, 0.5),
        (0.38462, 0.30015), (0.61538, 0.30015), (0.81643, 0.68269), (0.5, 0.86538),
        (0.18357, 0.68269), (0.18357, 0.31731), (0.5, 0.13462), (0.81643, 0.31731),
        (0.98077, 0.5), (0.74038, 0.91636), (0.25962, 0.91636), (0.019231, 0.5),
        (0.25962, 0.083642), (0.74038, 0.083642),
    ]
)  # fmt: skip
SIGMA0, START_SPREAD = 0.1, 0.3


@dataclass(frozen=True)
class SearchSpace:
    """A space for CMA-ES: `express` turns points (B, D) within `bounds` into solutions (B, J)."""

    name: str
    num_parameters: int
    bounds: tuple[float, float]
    express: Callable[[Float[np.ndarray, "point parameter"]], Solutions]

    @property
    def population(self) -> int:
        """Candidates per generation of CMA-ES in this space, pycma's default."""
        return 4 + int(3 * np.log(self.num_parameters))


def direct_space(num_joints: int) -> SearchSpace:
    """Return the space of the solutions themselves."""
    return SearchSpace("direct", num_joints, (-1.0, 1.0), lambda points: points.astype(np.float32))


def code_space(model: SolutionAutoencoder) -> SearchSpace:
    """Return the space of the codes of an autoencoder of elites.

    Codes of a VQ-VAE are not rounded to its code vectors. Its decoder accepts points between them,
    and there are too few rounded codes to come near every target.
    """

    @torch.no_grad()
    def express(points: Float[np.ndarray, "point parameter"]) -> Float32[np.ndarray, "point joint"]:
        solutions: np.ndarray = model.decode(torch.from_numpy(points).float()).numpy()
        return solutions

    return SearchSpace("codes", model.config.num_numbers, (-5.0, 5.0), express)


@dataclass(frozen=True)
class Attempt:
    """One search for one target.

    Attributes:
        distances: distance to the target of the best solution after each evaluation, (E,).
        spreads: standard deviation of that solution's angles, in radians, (E,).
    """

    distances: Float[np.ndarray, " evaluation"]
    spreads: Float[np.ndarray, " evaluation"]


def reach(
    target: Float[np.ndarray, "2"], space: SearchSpace, arm: PlanarArm, evaluations: int, seed: int
) -> Attempt:
    """Search by CMA-ES for a solution at the target, for a given number of evaluations.

    Source: arXiv 2003.04389, section 4.3: sigma0 0.1, start 0.3 N(0, 1). The fitness is minus the
        distance.

    Raises: ValueError for fewer evaluations than CMA-ES has candidates per generation.
    """
    population = space.population
    if evaluations < population:
        raise ValueError(f"expected {population} evaluations or more, got {evaluations}")
    generator = np.random.default_rng(seed)
    start = START_SPREAD * generator.standard_normal(space.num_parameters)
    search = CMAES(
        space.num_parameters,
        sigma0=SIGMA0,
        population=population,
        seed=seed,
        mean=np.clip(start, *space.bounds),
        bounds=space.bounds,
    )
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(math.ceil(evaluations / population)):
        fitness, measures = arm.evaluate(space.express(search.ask()))
        away = np.linalg.norm(measures - target, axis=1)
        search.tell(-away)
        found.append((away, -fitness))
    distances, spreads = np.concatenate(found, axis=1, dtype=np.float64)[:, :evaluations]
    # The best solution after each evaluation; among equally near ones it is the first.
    improves = np.diff(np.minimum.accumulate(distances), prepend=np.inf) < 0
    best = np.maximum.accumulate(np.where(improves, np.arange(evaluations), 0))
    return Attempt(distances[best], spreads[best])
