"""A test of a learned representation: how close a search comes to targets in few evaluations.

A target is a point in the space of measures. CMA-ES searches for a solution whose measures equal
the target. The search is either over solutions or over the codes of an autoencoder that was trained
on elites. Codes decode to solutions that resemble elites.
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
    """A space that CMA-ES searches.

    `express` maps points within `bounds`, (points, parameters), to solutions, (points, joints).
    """

    name: str
    num_parameters: int
    bounds: tuple[float, float]
    express: Callable[[Float[np.ndarray, "point parameter"]], Solutions]

    @property
    def population(self) -> int:
        """The population size of CMA-ES in this space, which is pycma's default."""
        return 4 + int(3 * np.log(self.num_parameters))


def direct_space(num_joints: int) -> SearchSpace:
    """Return the space in which each point is a solution."""
    return SearchSpace("direct", num_joints, (-1.0, 1.0), lambda points: points.astype(np.float32))


def code_space(model: SolutionAutoencoder) -> SearchSpace:
    """Return the space in which each point is a code of an autoencoder of elites.

    The codes of a VQ-VAE are not rounded to the vectors of the codebook. The decoder also accepts
    points between code vectors, and rounded codes are too few to come near every target.
    """

    @torch.no_grad()
    def express(points: Float[np.ndarray, "point parameter"]) -> Float32[np.ndarray, "point joint"]:
        return model.decode(torch.from_numpy(points).float()).numpy()

    return SearchSpace("codes", model.config.num_numbers, (-5.0, 5.0), express)


@dataclass(frozen=True)
class Attempt:
    """One search for one target.

    Attributes:
        distances: after each evaluation, the distance between the target and the measures of the
            best solution so far, (evaluations,).
        spreads: after each evaluation, the standard deviation of the joint angles of the best
            solution so far, in radians, (evaluations,).
    """

    distances: Float[np.ndarray, " evaluation"]
    spreads: Float[np.ndarray, " evaluation"]


def reach(
    target: Float[np.ndarray, "2"], space: SearchSpace, arm: PlanarArm, evaluations: int, seed: int
) -> Attempt:
    """Search with CMA-ES for a solution near the target, with a given number of evaluations.

    Source: arXiv 2003.04389, section 4.3: the start of the search is a random point whose
        coordinates have a standard deviation of 0.3, and sigma0 is 0.1. The fitness is the negative
        distance to the target.

    Raises: ValueError if `evaluations` is smaller than the population of CMA-ES.
    """
    population = space.population
    if evaluations < population:
        raise ValueError(f"expected at least {population} evaluations, got {evaluations}")
    start = START_SPREAD * np.random.default_rng(seed).standard_normal(space.num_parameters)
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
