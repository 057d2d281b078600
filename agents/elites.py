"""MAP-Elites, a search for the best solution in every cell, with an ask-and-tell interface.

The cells divide the space of measures, which are numbers that describe a solution. The best
solution in a cell is called the elite of the cell. New solutions are variations of elites. The
archive, a class of pyribs, stores the elites. The random numbers of each generation come from a new
generator with the seed `(seed, generation)`. A resumed search therefore gives the same result as an
uninterrupted search. The saved state consists of the archive, the plays in the bandit's window, and
the numbers of generations and evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike
from ribs.archives import CVTArchive, k_means_centroids

from agents.bandit import SlidingWindowBandit
from agents.operators import Mix, OperatorConfig, Reconstruct, Solutions, breed

Centroids = Float64[np.ndarray, "niche measure"]
SAMPLES_PER_CELL = 20


@dataclass(frozen=True)
class ElitesConfig:
    """Settings of MAP-Elites.

    Attributes:
        batch_size: number of solutions per generation.
        initial_coverage: new solutions are random until this fraction of all cells is filled. After
            that, new solutions are children of elites.
        start_sigma: standard deviation of each number of a random solution. The mean is 0.
        bounds: the lowest and the highest allowed value of the numbers of a solution. Numbers
            outside the bounds are clipped.
        mixes: mixes of operators. If there are several mixes, a bandit selects one mix per
            generation. The bandit's reward is the fraction of the generation's solutions that
            became elites.
        bandit_window: number of recent generations whose rewards the bandit uses.
        exploration: weight of the exploration term in the bandit's upper confidence bounds. UCB1
            uses a weight of 1. With a weight of 1, the exploration term is about 0.7 after 200
            generations with nine mixes. A term of 0.7 would dominate the rewards, which are 0.2 to
            0.6.
        qd_score_offset: number that the QD score subtracts from the fitness of every elite. Set
            `qd_score_offset` to the lowest possible fitness, so that no elite lowers the QD score.

    Source: arXiv 2003.04389, section 4.
    """

    batch_size: int = 100
    initial_coverage: float = 0.05
    start_sigma: float = 1.0
    bounds: tuple[float, float] = (-1.0, 1.0)
    mixes: tuple[Mix, ...] = (Mix(line=1.0),)
    operators: OperatorConfig = field(default_factory=OperatorConfig)
    bandit_window: int = 1_000
    exploration: float = 0.1
    qd_score_offset: float = 0.0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {self.batch_size}")
        if not 0 < self.initial_coverage <= 1:
            raise ValueError(f"expected initial_coverage in (0, 1], got {self.initial_coverage}")
        if not self.mixes:
            raise ValueError("expected at least 1 mix of operators, got none")
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"expected a lower bound below the upper bound, got {self.bounds}")


@dataclass(frozen=True)
class EliteStats:
    """Statistics of a search after a generation.

    Attributes:
        coverage: fraction of cells that hold an elite.
        norm_qd_score: sum of (fitness - `qd_score_offset`) over all elites, divided by the number
            of cells.
        mean_fitness: mean fitness of all elites.
        added: number of solutions of the last generation that became elites.
        mix: index of the mix that made the solutions of the last generation, or None if these
            solutions were random.
    """

    generation: int
    evaluations: int
    coverage: float
    norm_qd_score: float
    mean_fitness: float
    best_fitness: float
    added: int
    mix: int | None


class MapElites:
    """A search: `ask()` returns solutions, and `tell(fitness, measures)` receives their results.

    Args:
        num_parameters: how many numbers a solution has.
        centroids: centroids of the cells, in the space of measures.
        ranges: range of each measure that pictures of the archive show. If `ranges` is None,
            pictures show the range of the centroids.
        reconstruct: function that maps solutions x to decode(encode(x)), by an autoencoder of the
            elites. Only mixes with reconstruction need this function.

    Source: arXiv 1504.04909. The cells follow arXiv 1610.05729, and the operators follow arXiv
    2003.04389.
    """

    def __init__(
        self,
        num_parameters: int,
        centroids: Centroids,
        config: ElitesConfig,
        *,
        seed: int = 0,
        reconstruct: Reconstruct | None = None,
        ranges: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        self.num_parameters = num_parameters
        self.config = config
        self.seed = seed
        self.reconstruct = reconstruct
        # Archive and operators draw from this generator, which every generation seeds anew.
        self._generator = np.random.default_rng(seed)
        self.archive = CVTArchive(
            solution_dim=num_parameters,
            centroids=centroids,
            ranges=ranges or list(zip(centroids.min(axis=0), centroids.max(axis=0), strict=True)),
            solution_dtype=np.float32,
            objective_dtype=np.float64,
            measures_dtype=np.float64,
            seed=self._generator,  # type: ignore[arg-type]  # it takes what default_rng takes
        )
        self.generation = 0
        self._bandit = SlidingWindowBandit(
            len(config.mixes), window=config.bandit_window, exploration=config.exploration
        )
        self._pending: tuple[Solutions, int | None] | None = None
        self._last_generation: tuple[int, int | None] = (0, None)

    @property
    def elites(self) -> Solutions:
        """All elites, in the order in which their cells were filled."""
        return self.archive.data("solution")

    @property
    def evaluations(self) -> int:
        """Number of solutions that have been evaluated."""
        return self.generation * self.config.batch_size

    @property
    def started(self) -> bool:
        """Whether enough cells are filled to make children of elites."""
        return len(self.archive) >= max(self.config.initial_coverage * self.archive.cells, 1)

    def ask(self) -> Solutions:
        """Return this generation's solutions, (batch_size, num_parameters).

        The solutions stay the same until `tell` is called.
        """
        if self._pending is None:
            config = self.config
            generator = self._generator
            fresh = np.random.PCG64(np.random.SeedSequence([self.seed, self.generation]))
            generator.bit_generator.state = fresh.state
            mix = self._bandit.select() if self.started else None
            if mix is None:
                shape = (config.batch_size, self.num_parameters)
                drawn = config.start_sigma * generator.standard_normal(shape, dtype=np.float32)
            else:
                drawn = breed(
                    lambda count: self.archive.sample_elites(count)["solution"],
                    config.mixes[mix],
                    config.batch_size,
                    generator,
                    config.operators,
                    self.reconstruct,
                )
            self._pending = np.clip(drawn, *config.bounds, dtype=np.float32), mix
        return self._pending[0].copy()

    def tell(self, fitness: ArrayLike, measures: Float[np.ndarray, "solution measure"]) -> None:
        """Receive the fitness, (batch_size,), and the measures of the solutions from `ask`.

        A higher fitness is better.

        Raises ValueError if a fitness or a measure is not finite. Raises RuntimeError if `ask` was
        not called since the last `tell`.
        """
        if self._pending is None:
            raise RuntimeError("tell() needs solutions from ask(): call ask() before each tell()")
        values = np.asarray(fitness, dtype=np.float64)
        if not np.isfinite(values.sum() + measures.sum()):
            raise ValueError(
                "expected finite fitness and measures, got values that are not finite in "
                f"generation {self.generation}"
            )
        solutions, mix = self._pending
        added = int(np.count_nonzero(self.archive.add(solutions, values, measures)["status"]))
        if mix is not None:
            self._bandit.tell(mix, added / len(solutions))
        self._pending = None
        self._last_generation = added, mix
        self.generation += 1

    def stats(self) -> EliteStats:
        """Return statistics of the search after the last generation."""
        added, mix = self._last_generation
        # The archive's own running sums are not used: after a resume, they are rounded differently.
        fitness = self.archive.data("objective")
        return EliteStats(
            generation=self.generation,
            evaluations=self.evaluations,
            coverage=len(fitness) / self.archive.cells,
            norm_qd_score=float((fitness - self.config.qd_score_offset).sum()) / self.archive.cells,
            mean_fitness=float(fitness.mean()),
            best_fitness=float(fitness.max()),
            added=added,
            mix=mix,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state that `load_state_dict` needs.

        The state consists of arrays, and of `search`, which JSON can store.
        """
        data = self.archive.data(["solution", "objective", "measures"], return_type="tuple")
        return {
            **dict(zip(("solutions", "fitness", "measures"), data, strict=True)),
            "search": {
                "generation": self.generation,
                "evaluations": self.evaluations,
                "plays": self._bandit.plays,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved search; elites are added in the order in which they were saved."""
        self.archive.clear()
        # Elites are added one by one: a batch would be ordered by cell, and other parents be drawn.
        for elite in zip(state["solutions"], state["fitness"], state["measures"], strict=True):
            self.archive.add_single(*elite)
        for choice, reward in state["search"]["plays"]:
            self._bandit.tell(choice, reward)
        self.generation = state["search"]["generation"]
        self._pending = None


def disc_centroids(num_cells: int, seed: int = 0) -> Centroids:
    """Return the centroids of cells that divide the disc that an arm of length 1 can reach.

    The measures are the coordinates of the arm's end, scaled so that the disc has the centre (0.5,
    0.5) and the radius 0.5. The cells have about the same size, and form a centroidal Voronoi
    tessellation. K-means computes the tessellation from random points: each centroid is the mean of
    the points in its cell.

    Source: arXiv 1610.05729, algorithm 1. Differs: all points that k-means uses lie in the disc.
    Every cell can therefore be filled, and a coverage of 1 is possible.
    """
    generator = np.random.default_rng(seed)
    count = SAMPLES_PER_CELL * num_cells
    radius = np.sqrt(generator.random(count)) / 2
    angle = generator.uniform(0, 2 * np.pi, count)
    points = 0.5 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    box = [(0.0, 1.0)] * 2
    centroids, _ = k_means_centroids(centroids=num_cells, ranges=box, samples=points, seed=seed)
    return centroids
