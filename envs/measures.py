"""Measures of how an agent acts, such as the mean speed over an episode."""

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
    """A number that describes how an episode is played: the mean of `read` over the env steps.

    A measure may read state that is hidden from agents, because measures are used only to sort
    agents. Nothing is trained on measures.

    Attributes:
        unit: unit of the measure, or "" if the measure has no unit.
        low, high: lower and upper end of the range. A value outside the range counts as the nearest
            end.
        read: function that returns a number after each env step. The function must be picklable,
            because it is sent to worker processes.
    """

    name: str
    unit: str
    low: float
    high: float
    read: Reading

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"expected low < high for {self.name!r}, got low {self.low} and high {self.high}"
            )

    @property
    def label(self) -> str:
        """The name and the unit of the measure, for axes and tables."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Magnitude:
    """Reads the absolute value of one element of the encoded action.

    If actions are one-hot, the mean of this value over an episode is the frequency of the action
    with this index.
    """

    index: int

    def __call__(self, env: gym.Env[Any, Any], action: NDArray[np.float32]) -> float:
        """Return the absolute value of element `index` of `action`."""
        return abs(float(action[self.index]))


def hull_speed(env: gym.Env[Any, Any], action: NDArray[np.float32]) -> float:
    """Return the speed of CarRacing's hull, in world units (Box2D's metres) per second.

    The function reads the speed from the environment, because `info` does not contain the speed.
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
    """Return measures that describe the actions of an episode in any environment.

    For a Box, the measures are the mean magnitudes of the first two dimensions of the actions. For
    a Discrete space, the measures are the frequencies of the first two actions. If there are only
    two actions, the only measure is the frequency of the first action, because the two frequencies
    add up to 1.
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
