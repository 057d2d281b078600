"""The planar arm, a chain of joints whose end should reach many places in the plane."""

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
    """A planar arm with links of equal length and a total length of 1.

    A solution has one number x in [-1, 1] per joint. The angle of the joint is x * pi / 2 radians.
    In MAP-Elites, the quality of a solution is called its fitness. The fitness of a solution is
    minus the standard deviation of its angles in radians, so equal angles are best. The two
    measures of a solution are the coordinates of the arm's end, scaled to [0, 1].

    Source: arXiv 2003.04389, section 4, for the angles, the fitness and the measures.
    """

    num_joints: int

    def __post_init__(self) -> None:
        if self.num_joints < 1:
            raise ValueError(f"expected at least 1 joint, got {self.num_joints}")

    def evaluate(self, solutions: Solutions) -> tuple[Fitness, Measures]:
        """Return the fitness (B,) and the measures (B, 2) of solutions (B, J).

        Each fitness is at most 0, and each measure is in [0, 1]. Raises ValueError if the solutions
        do not have one number per joint.
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
