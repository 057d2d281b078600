"""Means and differences over a few seeds, with 95 % intervals by Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.evaluation import student_t_quantile


@dataclass(frozen=True)
class Estimate:
    """A value and how far it reaches to either side; `half_width` is nan for a single seed."""

    value: float
    half_width: float

    @property
    def apart_from_zero(self) -> bool:
        """Whether the interval leaves zero out."""
        return abs(self.value) > self.half_width  # nan compares as false

    def text(self, digits: int = 0) -> str:
        """The value and, where it is known, the interval's half."""
        if math.isnan(self.half_width):
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} ± {self.half_width:.{digits}f}"


def mean_over(values: Sequence[float]) -> Estimate:
    """The mean over seeds."""
    count = len(values)
    if count < 2:
        return Estimate(float(values[0]), math.nan)
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(float(np.mean(values)), student_t_quantile(count - 1) * spread)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Mean of `ours` minus mean of `theirs`, of seeds that have nothing to do with each other.

    One variance for both, so that three seeds a side leave four degrees of freedom.
    """
    degrees = len(ours) + len(theirs) - 2
    value = float(np.mean(ours) - np.mean(theirs))
    if degrees < 1:
        return Estimate(value, math.nan)
    squares = sum(float(np.square(np.asarray(v) - np.mean(v)).sum()) for v in (ours, theirs))
    variance = squares / degrees * (1 / len(ours) + 1 / len(theirs))
    return Estimate(value, student_t_quantile(degrees) * math.sqrt(variance))
