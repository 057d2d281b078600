"""Exploration policies: noise that is correlated in time, alone or on another policy's actions."""

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

# Both are in env steps, so that they do not depend on the action repeat. 30 is 0.6 s of CarRacing:
# long enough for a turn of the wheel to show in the frames, short enough for many turns per
# episode.
CORRELATION_STEPS = 30
STYLE_STEPS = 200
# Unit: half an action's range. A strength is drawn for every episode, so that M is trained on the
# agent's own driving as well as on recovery from its mistakes.
NOISE_STRENGTHS = (0.1, 0.3, 0.6)


class CorrelatedNoise:
    """Ornstein-Uhlenbeck noise of unit variance, with one row of `size` numbers per environment."""

    def __init__(self, num_envs: int, size: int, correlation_steps: float) -> None:
        """After `correlation_steps` calls of `step`, the autocorrelation has fallen to 1/e."""
        self.values: Float64[np.ndarray, "env size"] = np.zeros((num_envs, size))
        self._autocorrelation = np.exp(-1 / correlation_steps)
        self._noise_scale = np.sqrt(1 - self._autocorrelation**2)

    def restart(self, i: int, generator: np.random.Generator) -> None:
        """Draw row i from the stationary distribution, so that noise starts at full strength."""
        self.values[i] = generator.standard_normal(self.values.shape[1])

    def step(self, i: int, generator: np.random.Generator) -> Float64[np.ndarray, " size"]:
        """Advance row i by one agent step, and return row i."""
        noise = generator.standard_normal(self.values.shape[1])
        self.values[i] = self._autocorrelation * self.values[i] + self._noise_scale * noise
        result: np.ndarray = self.values[i]
        return result


class ExploringPolicy(RepeatingPolicy):
    """Policy that collects the first data.

    Instead of a controller's raw outputs, the policy uses the mean of a style plus correlated
    noise.

    One of the task's styles is drawn when an episode begins, and again every `STYLE_STEPS` env
    steps on average. The mean plus the noise goes through the task's default action map. Because
    the noise is correlated in time, a Discrete action is often repeated for several agent steps.
    """

    def __init__(
        self, task: Task, action_space: gym.Space[Any], action_repeat: int | None = None
    ) -> None:
        """If `action_repeat` is None, the policy uses the task's action repeat."""
        super().__init__(action_space, "exploring", action_repeat or task.action_repeat)
        self._styles = task.exploration
        self._action_map = task.action_map

    def begin(self, starting: EnvMask) -> None:
        """For each starting environment, draw a style and the first values of the noise."""
        if starting.all():
            self._noise = CorrelatedNoise(
                self.num_envs, self._action_map.num_outputs, CORRELATION_STEPS / self.action_repeat
            )
            self._style = np.zeros(self.num_envs, dtype=np.int64)
        for i in indices_of(starting):
            self._noise.restart(i, self.generators[i])
            self._style[i] = self.generators[i].integers(len(self._styles))

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return the actions that the action map makes from a style's mean plus noise."""
        outputs = np.zeros_like(self._noise.values)
        for i in indices_of(due):
            generator = self.generators[i]
            if generator.random() < self.action_repeat / STYLE_STEPS:
                self._style[i] = generator.integers(len(self._styles))
            style = self._styles[self._style[i]]
            outputs[i] = style.mean + style.spread * self._noise.step(i, generator)
        return self._action_map(outputs.astype(np.float32))


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
        agent_steps = CORRELATION_STEPS / self.action_repeat
        if starting.all():
            self._noise = CorrelatedNoise(self.num_envs, self._bounds.size, agent_steps)
            self._strength = np.zeros(self.num_envs)
            self._random_action = np.zeros((self.num_envs, self._bounds.size), dtype=np.float32)
            self._acts_randomly = np.zeros(self.num_envs, dtype=bool)
        for i in indices_of(starting):
            self._strength[i] = self.generators[i].choice(self._strengths)
            self._noise.restart(i, self.generators[i])
            self._redraw_run(i)
        self._policy.begin(starting)

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return the noisy actions, after passing them to the `executed` of the inner policy."""
        actions = self._policy.select_actions(frames, due).copy()
        for i in indices_of(due):
            if self._bounds.discrete:
                # One draw decides both the end of a run and the start of the next: the fraction of
                # random actions is then exactly `strength`, for any length of runs.
                if self.generators[i].random() < self.action_repeat / CORRELATION_STEPS:
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
