"""Episodes as arrays, and functions that play several episodes in lockstep with one policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float32, UInt8

from agents.policy import Policy
from envs.actions import encode_actions
from envs.measures import Measure


@dataclass(frozen=True, eq=False, kw_only=True)
class EpisodeInfo:
    """Metadata of an episode: its environment, its policy, and how it ended."""

    terminated: bool
    truncated: bool
    env_id: str
    seed: int
    policy: str
    action_repeat: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollout(EpisodeInfo):
    """One episode of T environment steps.

    The policy receives frames[t] and takes actions[t], which leads to rewards[t] and frames[t+1].
    The actions are the executed actions, encoded as Box values or as one-hot vectors. There are T+1
    frames, and the last frame belongs to this episode, never to the next episode.

    Raises ValueError if the shape or the dtype of an array differs from the array's annotation.
    """

    frames: UInt8[np.ndarray, "steps_plus_1 height width channel"]
    actions: Float32[np.ndarray, "steps action"]
    rewards: Float32[np.ndarray, " steps"]

    def __post_init__(self) -> None:
        steps = len(self.rewards)
        expected = {
            "frames": (np.uint8, 4, steps + 1),
            "actions": (np.float32, 2, steps),
            "rewards": (np.float32, 1, steps),
        }
        for name, (dtype, ndim, length) in expected.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != ndim or len(array) != length:
                raise ValueError(
                    f"a rollout of {steps} rewards: expected {name} as {np.dtype(dtype)} with "
                    f"{ndim} axes and length {length}, got {array.dtype} of shape {array.shape}"
                )

    @property
    def num_steps(self) -> int:
        """Number of environment steps, T."""
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Sum of all rewards, undiscounted."""
        return float(self.rewards.sum(dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class EpisodeScore(EpisodeInfo):
    """The return and the length of an episode, without frames; `num_steps` counts env steps.

    `measures` holds the mean of each requested measure over all env steps.
    """

    episode_return: float
    num_steps: int
    measures: tuple[float, ...] = ()


@dataclass
class _Recording:
    """The record of an episode that is still being played.

    `frames` holds all frames, or only the latest frame if the frames are not needed. `fields` holds
    the fields of an `EpisodeInfo`. `readings` holds one row of measures per env step.
    """

    frames: list[np.ndarray]
    fields: dict[str, Any]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    readings: list[list[float]] = field(default_factory=list)
    done: bool = False


def play(
    make: Callable[[], gym.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    *,
    max_steps: int | None = None,
    batch_size: int | None = None,
) -> list[Rollout]:
    """Plays one episode per seed in this process, with one batched policy.

    The policy gets `batch_size` rows of frames at every step. If `batch_size` is None, the policy
    gets one row per seed. The number of rows is fixed, because the results of a network can differ
    in the last bit between batch sizes. A row without an episode is a black frame. A row whose
    episode has ended repeats the last frame of that episode. Neither kind of row is recorded. The
    first seed also seeds the randomness of the policy.

    An episode is truncated after `max_steps` env steps.

    Raises ValueError if there are no seeds, if there are more seeds than `batch_size`, or if
    `max_steps` is below 1. The environments are always closed, even after an error.
    """
    return [
        Rollout(
            frames=np.stack(recording.frames),
            actions=np.stack(recording.actions),
            rewards=np.array(recording.rewards, dtype=np.float32),
            **recording.fields,
        )
        for recording in _play_in_lockstep(make, policy, seeds, max_steps, batch_size, True, ())
    ]


def play_scores(
    make: Callable[[], gym.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    *,
    max_steps: int | None = None,
    batch_size: int | None = None,
    measures: Sequence[Measure] = (),
) -> list[EpisodeScore]:
    """Plays episodes as `play` does, but returns only each episode's score and measures."""
    return [
        EpisodeScore(
            # Rewards are rounded as in a Rollout, so that both kinds of result agree.
            episode_return=float(np.array(recording.rewards, np.float32).sum(dtype=np.float64)),
            num_steps=len(recording.rewards),
            measures=tuple(np.mean(recording.readings, axis=0).tolist()),
            **recording.fields,
        )
        for recording in _play_in_lockstep(
            make, policy, seeds, max_steps, batch_size, False, measures
        )
    ]


def _play_in_lockstep(
    make: Callable[[], gym.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    max_steps: int | None,
    batch_size: int | None,
    keep_frames: bool,
    measures: Sequence[Measure],
) -> list[_Recording]:
    batch_size = len(seeds) if batch_size is None else batch_size
    if not 0 < len(seeds) <= batch_size:
        raise ValueError(f"expected 1 to {batch_size} seeds (the batch size), got {len(seeds)}")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"expected max_steps of at least 1, got {max_steps}")
    with contextlib.ExitStack() as open_envs:
        envs = [open_envs.enter_context(make()) for _ in seeds]
        recordings = [_begin(env, policy, seed) for env, seed in zip(envs, seeds, strict=True)]
        batch = np.zeros((batch_size, *recordings[0].frames[0].shape), dtype=np.uint8)
        policy.reset(batch_size, seeds[0])
        while not all(recording.done for recording in recordings):
            batch[: len(seeds)] = [recording.frames[-1] for recording in recordings]
            native = policy.act(batch.copy())  # a copy, as a policy may keep the array
            encoded = encode_actions(envs[0].action_space, native)
            for i, (env, recording) in enumerate(zip(envs, recordings, strict=True)):
                if recording.done:
                    continue
                if not keep_frames:
                    recording.frames.clear()
                _step(env, recording, native[i], max_steps)
                recording.actions.append(encoded[i])
                recording.readings.append([each.read(env, encoded[i]) for each in measures])
    return recordings


def _begin(env: gym.Env[Any, Any], policy: Policy, seed: int) -> _Recording:
    fields = {
        "env_id": type(env.unwrapped).__name__ if env.spec is None else env.spec.id,
        "seed": seed,
        "policy": policy.name,
        "action_repeat": policy.action_repeat,
    }
    # The frame is copied, because an environment may draw every frame into the same buffer.
    return _Recording([np.array(env.reset(seed=seed)[0])], fields)


def _step(
    env: gym.Env[Any, Any], recording: _Recording, action: Any, max_steps: int | None
) -> None:
    frame, reward, terminated, truncated, _ = env.step(action)
    recording.frames.append(np.array(frame))
    recording.rewards.append(float(reward))
    out_of_steps = len(recording.rewards) == max_steps and not terminated
    recording.fields["terminated"] = bool(terminated)
    recording.fields["truncated"] = bool(truncated) or out_of_steps
    recording.done = recording.fields["terminated"] or recording.fields["truncated"]
