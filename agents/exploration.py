"""Exploration policies: noise that is correlated in time, alone or on another policy's actions.

Which actions explore an environment well is not known beforehand: a cart needs a push that changes
at every step, and a car needs one that lasts for a second. Every episode therefore draws how long
its noise stays correlated and how strong it is.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float64

from agents.policy import (
    EncodedActions,
    EnvMask,
    Frames,
    RepeatingPolicy,
    indices_of,
    uniform_action,
)
from envs.actions import ActionMap
from envs.tasks import Task

# All numbers of steps are in env steps, so that they do not depend on the action repeat.
CORRELATION_STEPS = (1, 3, 10, 30)
HABIT_STEPS = 200
# In units of a controller's outputs, in which the noise has a spread of 1. A third of all habits
# have no spread, so that the noise alone decides; others hold an action for long.
HABIT_SPREADS = (0.0, 1.0, 2.0)
# Unit: half an action's range. A strength is drawn for every episode, so that M is trained on the
# agent's own behavior as well as on recovery from its mistakes.
NOISE_STRENGTHS = (0.0, 0.1, 0.3, 0.6)


class CorrelatedNoise:
    """Ornstein-Uhlenbeck noise of unit variance, with one row of `size` numbers per environment.

    Args:
        env_steps: number of env steps between two values of the noise.
    """

    def __init__(self, num_envs: int, size: int, env_steps: int = 1) -> None:
        self.values: Float64[np.ndarray, "env size"] = np.zeros((num_envs, size))
        self._env_steps = env_steps
        self._autocorrelation = np.zeros(num_envs)

    def restart(self, i: int, correlation_steps: float, generator: np.random.Generator) -> None:
        """Draw row i from the stationary distribution, so that noise starts at full strength.

        After `correlation_steps` env steps, the autocorrelation of row i has fallen to 1/e.
        """
        self.values[i] = generator.standard_normal(self.values.shape[1])
        self._autocorrelation[i] = np.exp(-self._env_steps / correlation_steps)

    def step(self, i: int, generator: np.random.Generator) -> Float64[np.ndarray, " size"]:
        """Advance row i by one agent step, and return row i."""
        kept = self._autocorrelation[i]
        noise = generator.standard_normal(self.values.shape[1])
        self.values[i] = kept * self.values[i] + np.sqrt(1 - kept**2) * noise
        result: np.ndarray = self.values[i]
        return result


class ExploringPolicy(RepeatingPolicy):
    """Policy that collects the first data, without knowledge of the environment.

    The sum of a habit and of correlated noise takes the place of a controller's raw outputs, and
    goes through the task's default action map. A habit is one number per output, which stays the
    same for `HABIT_STEPS` env steps on average: it makes the policy prefer some actions, so that
    the policy travels farther than random actions do. Because the noise is correlated in time, a
    Discrete action is often repeated for several agent steps.
    """

    def __init__(
        self, task: Task, action_space: gym.Space[Any], action_repeat: int | None = None
    ) -> None:
        """If `action_repeat` is None, the policy uses the task's action repeat."""
        super().__init__(action_space, "exploring", action_repeat or task.action_repeat)
        self._action_map = task.action_map

    def begin(self, starting: EnvMask) -> None:
        """For each starting environment, draw a habit, a correlation time, and the first noise."""
        size = self._action_map.num_outputs
        if starting.all():
            self._noise = CorrelatedNoise(self.num_envs, size, self.action_repeat)
            self._habit = np.zeros((self.num_envs, size))
        for i in indices_of(starting):
            generator = self.generators[i]
            self._noise.restart(i, float(generator.choice(CORRELATION_STEPS)), generator)
            self._draw_habit(i)

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return the actions that the action map makes from a habit plus noise."""
        outputs = np.zeros_like(self._noise.values)
        for i in indices_of(due):
            if self.generators[i].random() < self.action_repeat / HABIT_STEPS:
                self._draw_habit(i)
            outputs[i] = self._habit[i] + self._noise.step(i, self.generators[i])
        return self._action_map(outputs.astype(np.float32))

    def _draw_habit(self, i: int) -> None:
        spread = self.generators[i].choice(HABIT_SPREADS)
        self._habit[i] = spread * self.generators[i].standard_normal(self._habit.shape[1])


class NoisyPolicy(RepeatingPolicy):
    """Adds correlated noise to the actions of an inner policy, with a strength drawn per episode.

    In a Box space, the noise is an Ornstein-Uhlenbeck process. The standard deviation of the noise
    is the strength times half the range of the action, and the noisy actions are clipped to the
    bounds. In a Discrete space, random actions replace the inner policy's actions for a fraction
    `strength` of the time, and each random action is repeated for several steps. The inner policy
    receives the executed actions, so that its recurrent state follows the real episode.
    """

    def __init__(
        self, policy: RepeatingPolicy, strengths: float | Sequence[float] = NOISE_STRENGTHS
    ) -> None:
        """Raises ValueError if a strength is negative, or above 1 in a Discrete space."""
        super().__init__(
            policy.action_space, f"noisy {policy.name}", policy.action_repeat, noise_stream=1
        )
        self._policy = policy
        self._strengths = np.atleast_1d(np.asarray(strengths, dtype=np.float64))
        self._bounds = ActionMap.for_space(policy.action_space)
        highest = 1.0 if self._bounds.discrete else np.inf
        within = (self._strengths >= 0) & (self._strengths <= highest)
        if self._strengths.size == 0 or not within.all():
            raise ValueError(f"expected noise strengths from 0 to {highest}, got {strengths}")
        self._half_range = (np.array(self._bounds.high) - np.array(self._bounds.low)) / 2

    def reset(self, num_envs: int, seed: int = 0) -> None:
        """Seed this policy and the inner policy, which draw from separate random streams."""
        self._policy.reset(num_envs, seed)
        super().reset(num_envs, seed)

    def begin(self, starting: EnvMask) -> None:
        """For each starting environment, draw a strength and reset the inner policy's state."""
        size = self._bounds.size
        if starting.all():
            self._noise = CorrelatedNoise(self.num_envs, size, self.action_repeat)
            self._strength, self._run_length = np.zeros((2, self.num_envs))
            self._random_action = np.zeros((self.num_envs, size), dtype=np.float32)
            self._acts_randomly = np.zeros(self.num_envs, dtype=bool)
        for i in indices_of(starting):
            generator = self.generators[i]
            self._strength[i] = generator.choice(self._strengths)
            steps = float(generator.choice(CORRELATION_STEPS))
            self._run_length[i] = max(1.0, steps / self.action_repeat)  # in agent steps
            self._noise.restart(i, steps, generator)
            self._redraw_run(i)
        self._policy.begin(starting)

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return the noisy actions, after passing them to the `executed` of the inner policy."""
        actions = self._policy.select_actions(frames, due).copy()
        for i in indices_of(due):
            if self._bounds.discrete:
                # One draw decides both the end of a run and the start of the next: the fraction of
                # random actions is then exactly `strength`, for any length of runs.
                if self.generators[i].random() < 1 / self._run_length[i]:
                    self._redraw_run(i)
                if self._acts_randomly[i]:
                    actions[i] = self._random_action[i]
            else:
                noise = self._noise.step(i, self.generators[i])
                noisy = actions[i] + self._strength[i] * self._half_range * noise
                actions[i] = self._bounds.within(noisy)
        self._policy.executed(actions, due)
        return actions

    def executed(self, actions: EncodedActions, due: EnvMask) -> None:
        """Pass the executed actions on to the inner policy, which may wrap a further policy."""
        self._policy.executed(actions, due)

    def _redraw_run(self, i: int) -> None:
        self._acts_randomly[i] = self.generators[i].random() < self._strength[i]
        self._random_action[i] = uniform_action(self._bounds, self.generators[i])
