"""One episode as arrays, and playing a policy in several environments in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import gymnasium as gym
import numpy as np
from jaxtyping import Float32, UInt8

from agents.policy import Policy
from envs.actions import encode_actions
from envs.measures import Measure


@dataclass(frozen=True, eq=False)
class Rollout:
    """One episode of T environment steps: frames[t], actions[t] -> rewards[t], frames[t+1].

    Actions are encoded (Box values, or one-hot) and those that were executed. There are T+1
    frames: the last one is the episode's own, never the first of the next.

    Raises ValueError where shapes or types differ from these.
    """

    frames: UInt8[np.ndarray, "steps_plus_1 height width channel"]
    actions: Float32[np.ndarray, "steps action"]
    rewards: Float32[np.ndarray, " steps"]
    terminated: bool
    truncated: bool
    env_id: str
    seed: int
    policy: str
    action_repeat: int

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
        """Environment steps, T."""
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Sum of all rewards, undiscounted."""
        return float(self.rewards.sum(dtype=np.float64))


@dataclass(frozen=True)
class EpisodeScore:
    """The score of an episode without its frames; `num_steps` counts env steps.

    `measures` are those that were asked for, each the mean over all env steps.
    """

    episode_return: float
    num_steps: int
    terminated: bool
    truncated: bool
    env_id: str
    seed: int
    policy: str
    action_repeat: int
    measures: tuple[float, ...] = ()


@dataclass
class _Recording:
    """An episode while it is played. `frames` holds the latest only, unless all are kept.

    `readings` has a row of measures a step.
    """

    frames: list[np.ndarray]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    readings: list[list[float]] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated


@overload
def play(
    make: Callable[[], gym.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    *,
    max_steps: int | None = None,
    keep_frames: Literal[True] = True,
    batch_size: int | None = None,
) -> list[Rollout]: ...
@overload
def play(
    make: Callable[[], gym.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    *,
    max_steps: int | None = None,
    keep_frames: Literal[False],
    batch_size: int | None = None,
    measures: Sequence[Measure] = (),
) -> list[EpisodeScore]: ...
# Long: two kinds of records, each field by field.
def play(
    make: Callable[[], gym.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    *,
    max_steps: int | None = None,
    keep_frames: bool = True,
    batch_size: int | None = None,
    measures: Sequence[Measure] = (),
) -> list[Rollout] | list[EpisodeScore]:
    """Plays one episode per seed, all in this process, with one batched policy.

    The policy sees `batch_size` rows at every step (None: one per seed), because batched
    networks differ in the last bit with the batch size: a row without an episode is black, and
    an ended episode keeps its last frame; nothing of either is recorded. The policy's own
    randomness is seeded with the first seed.

    `max_steps` env steps truncate an episode. `keep_frames=False` gives `EpisodeScore`s, with
    the `measures` asked for.

    Raises ValueError where there are no seeds, or more than `batch_size`, or max_steps is below
    1. Whatever happens, the environments are closed.
    """
    batch_size = len(seeds) if batch_size is None else batch_size
    if not 0 < len(seeds) <= batch_size:
        raise ValueError(f"expected 1 to {batch_size} seeds (the batch size), got {len(seeds)}")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"expected max_steps of 1 or more, got {max_steps}")
    envs: list[gym.Env[Any, Any]] = []
    try:
        for _ in seeds:
            envs.append(make())
        recordings = _play_in_lockstep(
            envs, policy, seeds, max_steps, keep_frames, batch_size, measures
        )
    finally:
        for env in envs:
            env.close()
    env_id = envs[0].spec.id if envs[0].spec is not None else type(envs[0].unwrapped).__name__
    if keep_frames:
        return [
            Rollout(
                frames=np.stack(recording.frames),
                actions=np.stack(recording.actions),
                rewards=np.array(recording.rewards, dtype=np.float32),
                terminated=recording.terminated,
                truncated=recording.truncated,
                env_id=env_id,
                seed=seed,
                policy=policy.name,
                action_repeat=policy.action_repeat,
            )
            for seed, recording in zip(seeds, recordings, strict=True)
        ]
    return [
        EpisodeScore(
            # Rounded as a Rollout stores them, so that both kinds of result agree.
            episode_return=float(np.array(recording.rewards, np.float32).sum(dtype=np.float64)),
            num_steps=len(recording.rewards),
            terminated=recording.terminated,
            truncated=recording.truncated,
            env_id=env_id,
            seed=seed,
            policy=policy.name,
            action_repeat=policy.action_repeat,
            measures=tuple(np.mean(recording.readings, axis=0).tolist()),
        )
        for seed, recording in zip(seeds, recordings, strict=True)
    ]


def _play_in_lockstep(
    envs: list[gym.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    max_steps: int | None,
    keep_frames: bool,
    batch_size: int,
    measures: Sequence[Measure],
) -> list[_Recording]:
    action_space = envs[0].action_space
    # Copied: an environment may draw every frame into the same buffer.
    recordings = [
        _Recording(frames=[np.array(env.reset(seed=seed)[0])])
        for env, seed in zip(envs, seeds, strict=True)
    ]
    batch = np.zeros((batch_size, *recordings[0].frames[0].shape), dtype=np.uint8)
    policy.reset(batch_size, seeds[0])
    while not all(recording.done for recording in recordings):
        for i, recording in enumerate(recordings):
            batch[i] = recording.frames[-1]
        native = policy.act(batch.copy())  # a copy: what a policy keeps must not change
        encoded = encode_actions(action_space, native)
        for i, (env, recording) in enumerate(zip(envs, recordings, strict=True)):
            if recording.done:
                continue
            frame, reward, terminated, truncated, _ = env.step(native[i])
            if not keep_frames:
                recording.frames.clear()
            recording.frames.append(np.array(frame))
            recording.actions.append(encoded[i])
            recording.rewards.append(float(reward))
            recording.readings.append([each.read(env, encoded[i]) for each in measures])
            out_of_steps = max_steps is not None and len(recording.rewards) >= max_steps
            recording.terminated = bool(terminated)
            recording.truncated = bool(truncated) or (out_of_steps and not terminated)
    return recordings
