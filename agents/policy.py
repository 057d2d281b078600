"""Policies: the protocol, the base class that repeats an action, and the simplest policies."""

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
    """Acts in several environments at once, one row of `frames` for each.

    `act` is called every environment step and returns native actions: (B, A) of a Box's own type,
    int64 (B,) for a Discrete space. It holds an action for `action_repeat` steps. Where
    `reset_mask` is true, an environment starts a new episode: its agent step clock, its recurrent
    state and its noise are reset. Policies add their exploration noise themselves, so that recorded
    actions are the executed ones.
    """

    name: str
    action_repeat: int

    def reset(self, num_envs: int, seed: int = 0) -> None:
        """Resets the state of `num_envs` environments, and seeds all randomness with `seed`."""

    def act(self, frames: Frames, reset_mask: EnvMask | None = None) -> np.ndarray:
        """Return native actions for uint8 frames (B, H, W, 3), as described above."""
        ...


class RepeatingPolicy(ABC):
    """Calls `select_actions`, then repeats the actions for `action_repeat` environment steps.

    A subclass returns encoded actions, float32 (B, A): Box values, or a one-hot Discrete action.
    Each environment has its own generator, `self.generators[i]`. A subclass that draws only from it
    makes environment i independent of the number of environments.
    """

    def __init__(
        self, action_space: gym.Space[Any], name: str, action_repeat: int = 1, noise_stream: int = 0
    ) -> None:
        """`noise_stream` keeps a policy's draws apart from those of a policy wrapped in it."""
        if action_repeat < 1:
            raise ValueError(f"action_repeat must be 1 or more, got {action_repeat}")
        self.action_space = action_space
        self.name = name
        self.action_repeat = action_repeat
        self.num_envs = 0
        self.generators: list[np.random.Generator] = []
        self._noise_stream = noise_stream

    def reset(self, num_envs: int, seed: int = 0) -> None:
        """Resets the state of `num_envs` environments, with new generators."""
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
                f"got frames of {len(frames)}: call reset(num_envs={len(frames)}) first"
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
        """Return encoded actions (B, A), of which only the rows of `due` are used.

        Only the state of these rows may change. `frames` has all B rows, so that a batched network
        always has one batch size.
        """

    def begin(self, starting: EnvMask) -> None:  # noqa: B027 (a hook: most policies keep no state)
        """Reset the state of the environments in `starting`."""

    def executed(self, actions: EncodedActions, due: EnvMask) -> None:  # noqa: B027 (a hook)
        """Receive the actions that a wrapper executed in place of this policy's own.

        A policy that feeds its own action to a recurrent state must use these instead.
        """


class RandomPolicy(RepeatingPolicy):
    """A uniform draw from the action space at every agent step."""

    def __init__(self, action_space: gym.Space[Any], action_repeat: int = 1) -> None:
        super().__init__(action_space, "random", action_repeat)
        self._bounds = ActionMap.for_space(action_space)  # raises for unbounded spaces

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Draws from each environment's own generator."""
        actions = np.zeros((self.num_envs, self._bounds.size), dtype=np.float32)
        for i in indices_of(due):
            actions[i] = uniform_action(self._bounds, self.generators[i])
        return actions


class BrownianPolicy(RepeatingPolicy):
    """A random walk through a Box: a += sqrt(1/50) N(0, 1) per env step, clipped to its bounds.

    Raises UnsupportedActionSpace for a Discrete space.

    Source: later copies of the paper (50 is CarRacing's frame rate). Differs: the paper itself
    collects with random policies; an agent step held for k steps moves by sqrt(k/50).
    """

    def __init__(self, action_space: gym.Space[Any], action_repeat: int = 1) -> None:
        super().__init__(action_space, "brownian", action_repeat)
        self._bounds = ActionMap.for_space(action_space)
        if self._bounds.discrete:
            raise UnsupportedActionSpace(
                f"a Brownian walk needs a Box action space, got {action_space}: "
                "take RandomPolicy or ExploringPolicy"
            )
        self._step = np.sqrt(action_repeat / 50)

    def begin(self, starting: EnvMask) -> None:
        """Starts the walk at a uniformly drawn position in the Box."""
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
    """A constant encoded action, for example standing still; a baseline for every score."""

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
    """Draw one encoded action, uniform over the space that `bounds` was made for."""
    if bounds.discrete:
        return one_hot(generator.integers(bounds.size), bounds.size)
    if bounds.integer:
        low, high = (np.asarray(bound, dtype=np.int64) for bound in (bounds.low, bounds.high))
        return generator.integers(low, high, endpoint=True).astype(np.float32)
    return generator.uniform(bounds.low, bounds.high).astype(np.float32)


def indices_of(mask: EnvMask) -> list[int]:
    """Return the indices of the environments in a mask, in order."""
    return list(np.flatnonzero(mask).tolist())
