"""MAP-Elites with an ask-and-tell interface: it finds the best solution of every cell.

New solutions are variations of existing ones. Archives come from pyribs. Everything random in a
generation is drawn from `(seed, generation)`, so that a saved search continues exactly. The saved
state is the archive, the bandit's window and the counts of generations and evaluations.
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
        batch_size: children per generation.
        initial_coverage: fraction of all cells that random solutions fill before children are made.
        start_sigma: standard deviation of the random solutions around 0.
        bounds: bounds of every number of a solution; numbers outside are clipped.
        mixes: mixes of operators; a bandit selects among several mixes by the elites that they add.
        bandit_window: number of last generations that the bandit uses.
        exploration: weight of the bandit's uncertainty term. UCB1 uses 1. After 200 generations
            with nine mixes, its term of 0.7 would dominate the fractions of added elites, 0.2 to
            0.6.
        qd_score_offset: subtracted from every fitness in the QD score. It is the least possible
            fitness, so that no cell counts below 0.

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
            raise ValueError(f"expected a batch size of 1 or more, got {self.batch_size}")
        if not 0 < self.initial_coverage <= 1:
            raise ValueError(f"expected initial_coverage in (0, 1], got {self.initial_coverage}")
        if not self.mixes:
            raise ValueError("expected 1 mix of operators or more, got none")
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"expected a lower bound below the upper one, got {self.bounds}")


@dataclass(frozen=True)
class EliteStats:
    """Statistics of a search after a generation.

    Attributes:
        coverage: fraction of cells that hold an elite.
        norm_qd_score: sum over elites of fitness - `qd_score_offset`, divided by the number of
            cells.
        mean_fitness: mean fitness of all elites.
        added: solutions of the last generation that became elites.
        mix: index of the mix that made these solutions; None for random solutions.
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
    """The search: `ask()` returns solutions, `tell(fitness, measures)` takes their results.

    Args:
        num_parameters: how many numbers a solution has.
        centroids: centroids of the cells, in the space of measures.
        ranges: range of each measure, for pictures; None takes the ranges of the centroids.
        reconstruct: decode(encode(x)) of a model of the elites, for mixes that need one.

    Source: arXiv 1504.04909; cells as in arXiv 1610.05729, operators as in arXiv 2003.04389.
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
        """All elites, (n, D), in the order in which their cells were filled."""
        return self.archive.data("solution")

    @property
    def evaluations(self) -> int:
        """How many solutions have been evaluated."""
        return self.generation * self.config.batch_size

    @property
    def started(self) -> bool:
        """Whether enough cells are filled to make children."""
        return len(self.archive) >= max(self.config.initial_coverage * self.archive.cells, 1)

    def ask(self) -> Solutions:
        """Return this generation's solutions, (batch_size, D), fixed until `tell`."""
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
        """Receive the fitness (batch_size,), where higher is better, and the measures.

        Raises ValueError where a value is not finite, and RuntimeError where `ask` was not called.
        """
        if self._pending is None:
            raise RuntimeError("no solutions to tell about: call ask() before each tell()")
        values = np.asarray(fitness, dtype=np.float64)
        if not np.isfinite(values.sum() + measures.sum()):
            raise ValueError(
                f"expected finite fitness and measures, got others in generation {self.generation}"
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
        """Return what `load_state_dict` needs: arrays, and the JSON-able `search`."""
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
    """Return centroids of equal cells in the disc that an arm of length 1 can reach.

    The disc is centred at (0.5, 0.5). The cells are a centroidal Voronoi tessellation by k-means:
    each centroid is the middle of its cell.

    Source: arXiv 1610.05729, algorithm 1. Differs: all sampled points lie in the disc, so that
    every cell can be filled and a coverage of 1 means that all are.
    """
    generator = np.random.default_rng(seed)
    count = SAMPLES_PER_CELL * num_cells
    radius = np.sqrt(generator.random(count)) / 2
    angle = generator.uniform(0, 2 * np.pi, count)
    points = 0.5 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    box = [(0.0, 1.0)] * 2
    centroids, _ = k_means_centroids(centroids=num_cells, ranges=box, samples=points, seed=seed)
    return centroids
