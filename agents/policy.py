"""The protocol of policies, a base class that repeats actions, and the simplest policies."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from envs.actions import ActionMap, UnsupportedActionSpace, action_size, decode_actions, one_hot

Frames = UInt8[np.ndarray, "env height width channel"]
EnvMask = Bool[np.ndarray, " env"]
EncodedActions = Float32[np.ndarray, "env action"]


@runtime_checkable
class Policy(Protocol):
    """Acts in several environments at once; `frames` has one row per environment.

    `act` is called at every environment step and returns native actions for B environments. In a
    Box space, native actions are an array (B, A) of the space's own dtype. In a Discrete space,
    native actions are an int64 array (B,). `act` repeats an action for `action_repeat` environment
    steps. If `reset_mask` is True for an environment, this environment starts a new episode. The
    policy then resets its recurrent state and noise for this environment, and selects a new action.
    A policy adds its exploration noise itself, so that the recorded actions are the executed
    actions.
    """

    name: str
    action_repeat: int

    def reset(self, num_envs: int, seed: int = 0) -> None:
        """Resets the state of `num_envs` environments, and seeds all randomness with `seed`."""

    def act(self, frames: Frames, reset_mask: EnvMask | None = None) -> np.ndarray:
        """Return native actions, as `Policy` describes them, for uint8 frames (B, H, W, 3)."""
        ...


class RepeatingPolicy(ABC):
    """Calls `select_actions`, then repeats the actions for `action_repeat` environment steps.

    In a subclass, `select_actions` returns encoded actions, float32 (B, A). An encoded action holds
    the values of a Box action, or is the one-hot vector of a Discrete action. Each environment has
    its own generator, `self.generators[i]`. If a subclass draws environment i's random numbers only
    from `self.generators[i]`, these numbers do not depend on the number of environments.
    """

    def __init__(
        self, action_space: gym.Space[Any], name: str, action_repeat: int = 1, noise_stream: int = 0
    ) -> None:
        """Policies with the same seed but different `noise_stream` draw different numbers."""
        if action_repeat < 1:
            raise ValueError(f"action_repeat must be at least 1, got {action_repeat}")
        self.action_space = action_space
        self.name = name
        self.action_repeat = action_repeat
        self.num_envs = 0
        self.generators: list[np.random.Generator] = []
        self._noise_stream = noise_stream

    def reset(self, num_envs: int, seed: int = 0) -> None:
        """Resets the state of `num_envs` environments, and makes new generators."""
        self.num_envs = num_envs
        # A spawn key is used instead of SeedSequence([seed, i]): numpy pads entropy with zeros, so
        # that [seed, 0] is the same stream as Gymnasium's for env.reset(seed=seed).
        self.generators = [
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(self._noise_stream, i)))
            for i in range(num_envs)
        ]
        self._env_steps_since_action = np.zeros(num_envs, dtype=np.int64)
        self._held_actions = np.zeros((num_envs, action_size(self.action_space)), dtype=np.float32)
        self._native = decode_actions(self.action_space, self._held_actions)
        self.begin(np.ones(num_envs, dtype=bool))

    def act(self, frames: Frames, reset_mask: EnvMask | None = None) -> np.ndarray:
        """Return native actions; raises ValueError unless there is one frame per environment."""
        if len(frames) != self.num_envs:
            raise ValueError(
                f"policy {self.name!r} was reset for {self.num_envs} environments, "
                f"got frames of {len(frames)} environments: "
                f"call reset(num_envs={len(frames)}) first"
            )
        if reset_mask is not None and reset_mask.any():
            self._env_steps_since_action[reset_mask] = 0
            self.begin(reset_mask)
        due = self._env_steps_since_action == 0
        if due.any():
            self._held_actions[due] = self.select_actions(frames, due)[due]
            self._native = decode_actions(self.action_space, self._held_actions)
        self._env_steps_since_action = (self._env_steps_since_action + 1) % self.action_repeat
        return self._native.copy()

    @abstractmethod
    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return encoded actions (B, A); only the rows in which `due` is True are used.

        Only the state of the rows in which `due` is True may change. `frames` has all B rows, so
        that a batched network always gets the same batch size.
        """

    def begin(self, starting: EnvMask) -> None:  # noqa: B027 (a hook: most policies keep no state)
        """Reset the policy's state of the environments for which `starting` is True."""

    def executed(self, actions: EncodedActions, due: EnvMask) -> None:  # noqa: B027 (a hook)
        """Receive the actions that a wrapper executed instead of this policy's actions.

        A policy whose recurrent state depends on its own actions must use the executed actions
        instead.
        """


class RandomPolicy(RepeatingPolicy):
    """Draws a uniform action from the action space at every agent step."""

    def __init__(self, action_space: gym.Space[Any], action_repeat: int = 1) -> None:
        super().__init__(action_space, "random", action_repeat)
        self._bounds = ActionMap.for_space(action_space)  # raises for unbounded spaces

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Draws each environment's action from the environment's own generator."""
        actions = np.zeros((self.num_envs, self._bounds.size), dtype=np.float32)
        for i in indices_of(due):
            actions[i] = uniform_action(self._bounds, self.generators[i])
        return actions


class BrownianPolicy(RepeatingPolicy):
    """A random walk through a Box space: a += sqrt(1/50) N(0, 1) per env step.

    The walk is clipped to the bounds of the space.

    Raises UnsupportedActionSpace for a Discrete space.

    Source: later reimplementations of the paper; 50 is CarRacing's frame rate. Differs: the paper
    itself collects data with random policies. With an action repeat of k, the action here changes
    by sqrt(k/50) N(0, 1) after every k env steps.
    """

    def __init__(self, action_space: gym.Space[Any], action_repeat: int = 1) -> None:
        super().__init__(action_space, "brownian", action_repeat)
        self._bounds = ActionMap.for_space(action_space)
        if self._bounds.discrete:
            raise UnsupportedActionSpace(
                f"a Brownian walk needs a Box action space, got {action_space}: "
                "use RandomPolicy or ExploringPolicy"
            )
        self._step = np.sqrt(action_repeat / 50)

    def begin(self, starting: EnvMask) -> None:
        """Starts the walk at a uniformly drawn position in the Box space."""
        if starting.all():
            self._position = np.zeros((self.num_envs, self._bounds.size), dtype=np.float32)
        for i in indices_of(starting):
            self._position[i] = uniform_action(self._bounds, self.generators[i])

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Makes one step of the walk."""
        for i in indices_of(due):
            noise = self.generators[i].standard_normal(self._bounds.size)
            new_position = self._position[i] + self._step * noise
            self._position[i] = np.clip(new_position, self._bounds.low, self._bounds.high)
        return self._bounds.within(self._position)


class ConstantPolicy(RepeatingPolicy):
    """Always takes the same encoded action; serves as a baseline that scores are compared with."""

    def __init__(
        self,
        action_space: gym.Space[Any],
        action: Sequence[float],
        name: str,
        action_repeat: int = 1,
    ) -> None:
        super().__init__(action_space, name, action_repeat)
        self._action = np.asarray(action, dtype=np.float32)
        expected = (action_size(action_space),)
        if self._action.shape != expected:
            raise ValueError(
                f"policy {name!r}: expected an encoded action of shape {expected}, "
                f"got {self._action.shape}"
            )

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return the constant action for every environment."""
        return np.tile(self._action, (self.num_envs, 1))


def uniform_action(
    bounds: ActionMap, generator: np.random.Generator
) -> Float32[np.ndarray, " action"]:
    """Draw one encoded action uniformly from the action space that `bounds` describes."""
    if bounds.discrete:
        return one_hot(generator.integers(bounds.size), bounds.size)
    if bounds.integer:
        low, high = (np.asarray(bound, dtype=np.int64) for bound in (bounds.low, bounds.high))
        return generator.integers(low, high, endpoint=True).astype(np.float32)
    return generator.uniform(bounds.low, bounds.high).astype(np.float32)


def indices_of(mask: EnvMask) -> list[int]:
    """Return the indices of the environments for which the mask is True, in ascending order."""
    return list(np.flatnonzero(mask).tolist())
