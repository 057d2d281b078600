"""Exploration policies: noise that is correlated in time, alone or added to another policy."""

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
    """Ornstein-Uhlenbeck noise of unit variance, one row of `size` numbers per environment."""

    def __init__(self, num_envs: int, size: int, correlation_steps: float) -> None:
        """After `correlation_steps` the autocorrelation has fallen to 1/e."""
        self.values: Float64[np.ndarray, "env size"] = np.zeros((num_envs, size))
        self._autocorrelation = np.exp(-1 / correlation_steps)
        self._noise_scale = np.sqrt(1 - self._autocorrelation**2)

    def restart(self, i: int, generator: np.random.Generator) -> None:
        """Draws row i from the stationary distribution, so that noise has full strength at once."""
        self.values[i] = generator.standard_normal(self.values.shape[1])

    def step(self, i: int, generator: np.random.Generator) -> Float64[np.ndarray, " size"]:
        """Advance row i by one agent step, and return it."""
        noise = generator.standard_normal(self.values.shape[1])
        self.values[i] = self._autocorrelation * self.values[i] + self._noise_scale * noise
        result: np.ndarray = self.values[i]
        return result


class ExploringPolicy(RepeatingPolicy):
    """Policy for the first data: raw controller outputs are correlated noise in the task's styles.

    A style is drawn when an episode begins and again every `STYLE_STEPS` env steps on average.
    Outputs go through the task's default action map, so a Discrete action is repeated in runs.
    """

    def __init__(
        self, task: Task, action_space: gym.Space[Any], action_repeat: int | None = None
    ) -> None:
        """`action_repeat` None takes the task's."""
        super().__init__(action_space, "exploring", action_repeat or task.action_repeat)
        self._styles = task.exploration
        self._action_map = task.action_map

    def begin(self, starting: EnvMask) -> None:
        """Draws a style and the noise's first values."""
        if starting.all():
            self._noise = CorrelatedNoise(
                self.num_envs, self._action_map.num_outputs, CORRELATION_STEPS / self.action_repeat
            )
            self._style = np.zeros(self.num_envs, dtype=np.int64)
        for i in indices_of(starting):
            self._noise.restart(i, self.generators[i])
            self._style[i] = self.generators[i].integers(len(self._styles))

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return the style's mean plus noise, through the action map."""
        outputs = np.zeros_like(self._noise.values)
        for i in indices_of(due):
            generator = self.generators[i]
            if generator.random() < self.action_repeat / STYLE_STEPS:
                self._style[i] = generator.integers(len(self._styles))
            style = self._styles[self._style[i]]
            outputs[i] = style.mean + style.spread * self._noise.step(i, generator)
        return self._action_map(outputs.astype(np.float32))


class NoisyPolicy(RepeatingPolicy):
    """Another policy with correlated noise on its actions, of a strength drawn per episode.

    Box: Ornstein-Uhlenbeck noise of standard deviation strength x half the range, clipped to
    the bounds. Discrete: random actions for a fraction `strength` of the time, in runs. The inner
    policy receives the executed actions, so that its recurrent state follows the real episode.
    """

    def __init__(
        self, policy: RepeatingPolicy, strengths: float | Sequence[float] = NOISE_STRENGTHS
    ) -> None:
        """Raises ValueError for a negative strength, or one above 1 on a Discrete space."""
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
        """Seeds both policies; each draws from streams of its own."""
        self._policy.reset(num_envs, seed)
        super().reset(num_envs, seed)

    def begin(self, starting: EnvMask) -> None:
        """Draws a strength, and resets the inner policy too."""
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
        """Return the inner policy's actions with noise, and pass them to its `executed`."""
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
        """Pass the actions on to the inner policy, which may contain another policy."""
        self._policy.executed(actions, due)

    def _redraw_run(self, i: int) -> None:
        self._acts_randomly[i] = self.generators[i].random() < self._strength[i]
        self._random_action[i] = uniform_action(self._bounds, self.generators[i])
