"""Measures that distinguish ways of acting: numbers read at every step of an episode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.actions import ActionMap

# A reading gets the environment after a step, and the encoded action (A,) of that step.
Reading = Callable[[gym.Env[Any, Any], NDArray[np.float32]], float]


@dataclass(frozen=True)
class Measure:
    """One number about how an episode is played: the mean of a reading over its env steps.

    A measure may read state that is hidden from agents: it only sorts agents, and nothing is
    trained on it.

    Attributes:
        unit: unit of the number, "" where it has none.
        low, high: range of the number; values outside count as the nearest border.
        read: reads the number after a step. It is sent to workers, so it must pickle.
    """

    name: str
    unit: str
    low: float
    high: float
    read: Reading

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"expected a range that is not empty for the measure {self.name!r}, "
                f"got {self.low} to {self.high}"
            )

    @property
    def label(self) -> str:
        """Name and unit, for axes and tables."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Magnitude:
    """The absolute value of one number of the encoded action; for one-hot actions, a frequency."""

    index: int

    def __call__(self, env: gym.Env[Any, Any], action: NDArray[np.float32]) -> float:
        """Read the number from the action alone."""
        return abs(float(action[self.index]))


def hull_speed(env: gym.Env[Any, Any], action: NDArray[np.float32]) -> float:
    """Return the speed of CarRacing's hull, in world units (Box2D's metres) per second.

    The speed is read from the environment and not put into `info`, which stays Gymnasium's.
    """
    car = env.unwrapped.car  # type: ignore[attr-defined]
    return float(car.hull.linearVelocity.length)


# Together they distinguish standing from racing and straight driving from weaving, and thus what
# the camera shows: grass and curbs, bends taken wide or not at all, the road from its edge. Both
# cost nothing and exist at every step. Over 300 steps, full gas from a standstill has a speed of
# 47; the scripted driver has 58 and a steering of 0.03.
CAR_MEASURES = (
    Measure("speed", "units/s", 0.0, 60.0, hull_speed),
    Measure("steering", "", 0.0, 1.0, Magnitude(0)),
)

MAX_MEASURES = 2  # each one multiplies the cells, and a picture shows two


def action_measures(action_map: ActionMap) -> tuple[Measure, ...]:
    """Return measures for any environment: which actions were taken, and how strongly.

    Box: the mean magnitudes of the first two dimensions. Discrete: the frequencies of the first two
    actions, or only of the first action if there are two, as the other frequency is the rest.
    """
    if action_map.discrete:
        count = max(min(MAX_MEASURES, action_map.size - 1), 1)
        return tuple(
            Measure(f"action {action_map.start + index}", "fraction", 0.0, 1.0, Magnitude(index))
            for index in range(count)
        )
    sizes = np.maximum(np.abs(action_map.low), np.abs(action_map.high))[:MAX_MEASURES].tolist()
    return tuple(
        # A dimension that is always 0 has no range of its own.
        Measure(f"action {index}", "magnitude", 0.0, size or 1.0, Magnitude(index))
        for index, size in enumerate(sizes)
    )
