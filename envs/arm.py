"""The planar arm: a chain of joints in the plane, whose end should reach many places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

Solutions = Float32[np.ndarray, "solution joint"]
Fitness = Float64[np.ndarray, " solution"]
Measures = Float64[np.ndarray, "solution 2"]

CHUNK = 2_000_000  # numbers held at once: cosines of more do not fit a core's cache


@dataclass(frozen=True)
class PlanarArm:
    """An arm of equal links, 1 long in all; a solution turns joints by x * pi / 2, x in [-1, 1].

    Fitness is MAP-Elites' term for the quality of a solution. It is minus the standard deviation of
    the angles in radians, so that equal angles are best. The measures are the position of the arm's
    end.

    Source: arXiv 2003.04389, section 4: angles, fitness and measures.
    """

    num_joints: int

    def __post_init__(self) -> None:
        if self.num_joints < 1:
            raise ValueError(f"expected 1 joint or more, got {self.num_joints}")

    def evaluate(self, solutions: Solutions) -> tuple[Fitness, Measures]:
        """Return fitness (B,), at most 0, and measures (B, 2) within [0, 1] of solutions (B, J).

        Raises ValueError where solutions have another number of joints.
        """
        if solutions.ndim != 2 or solutions.shape[1] != self.num_joints:
            raise ValueError(
                f"expected solutions of shape (B, {self.num_joints}), got {solutions.shape}"
            )
        rows = max(CHUNK // self.num_joints // 16, 1)
        parts = [
            self._evaluate(solutions[first : first + rows])
            for first in range(0, max(len(solutions), 1), rows)
        ]
        fitness, measures = zip(*parts, strict=True)
        return np.concatenate(fitness), np.concatenate(measures)

    def _evaluate(self, solutions: Solutions) -> tuple[Fitness, Measures]:
        # Each joint is one row, so that adding rows processes all solutions at once.
        angles = np.multiply(solutions.T, np.float32(np.pi / 2), order="C")
        spread = angles.std(axis=0)
        np.cumsum(angles, axis=0, out=angles)
        end = np.stack([np.cos(angles).mean(axis=0), np.sin(angles).mean(axis=0)], axis=1)
        return -spread.astype(np.float64), end.astype(np.float64) / 2 + 0.5
