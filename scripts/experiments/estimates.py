"""Means over a few seeds and differences of such means, with 95 % intervals by Student's t."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A value, and half the width of its 95 % interval. The width is nan for a single seed."""

    value: float
    half_width: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.value) > self.half_width  # a comparison with nan is false

    def text(self, digits: int = 0) -> str:
        """Format the value. If the width is not nan, add half the width of the interval."""
        known = not math.isnan(self.half_width)
        return f"{self.value:.{digits}f}" + known * f" ± {self.half_width:.{digits}f}"


def mean_over(values: Sequence[float]) -> Estimate:
    """Return the mean over seeds, with the interval of the mean."""
    if len(values) < 2:
        return Estimate(float(values[0]), math.nan)
    half_width = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return Estimate(float(np.mean(values)), float(half_width))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Return the mean of `ours` minus the mean of `theirs`. Every value is of a different seed.

    The numbers of seeds must add up to at least three. `ours` and `theirs` are assumed to have the
    same variance. With three seeds each, the difference has four degrees of freedom.
    """
    degrees = len(ours) + len(theirs) - 2
    variance = (np.var(ours) * len(ours) + np.var(theirs) * len(theirs)) / degrees
    error = math.sqrt(variance * (1 / len(ours) + 1 / len(theirs)))
    half_width = float(stats.t.ppf(0.975, degrees) * error)
    return Estimate(float(np.mean(ours) - np.mean(theirs)), half_width)
