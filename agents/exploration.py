"""Policies that explore an environment with noise that is correlated in time.

It is not known beforehand which actions explore an environment well. In CartPole, the direction of
the push has to change after a few steps. In CarRacing, an action has to last for about a second.
The policies therefore draw a new correlation time of the noise for every episode, and `NoisyPolicy`
also draws a new strength.
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
# Standard deviations of habits, in units of a controller's outputs. In these units, the noise has a
# standard deviation of 1. A third of all habits are zero, so that the noise alone selects actions.
# Larger habits hold one action for long.
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

    The sum of a habit and of correlated noise replaces the raw outputs of a controller. The task's
    default action map turns this sum into an action. A habit has one number per output, and is
    drawn anew after `HABIT_STEPS` env steps on average. Because of the habit, the policy prefers
    some actions, and gets farther from the start of the episode than random actions do. Because the
    noise is correlated in time, a Discrete action is often repeated for several agent steps.
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
    """Adds correlated noise to the actions of an inner policy; each episode has its own strength.

    In a Box space, the noise is an Ornstein-Uhlenbeck process. The standard deviation of the noise
    is the strength times half the range of the action, and the noisy actions are clipped to the
    bounds. In a Discrete space, the strength is the fraction of agent steps in which random actions
    replace the inner policy's actions. Each random action is repeated for several agent steps. The
    inner policy receives the executed actions, so that its recurrent state follows the real
    episode.
    """

    def __init__(
        self, policy: RepeatingPolicy, strengths: float | Sequence[float] = NOISE_STRENGTHS
    ) -> None:
        """Raises ValueError if `strengths` is empty or has a negative number.

        In a Discrete space, a strength above 1 also raises ValueError.
        """
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
        """Return the noisy actions, and pass them to the method `executed` of the inner policy."""
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
