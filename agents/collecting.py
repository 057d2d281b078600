"""Many episodes over workers, streamed in the order of their seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import gymnasium as gym
import numpy as np

from agents.policy import Policy
from agents.rollout import EpisodeScore, Rollout, play
from agents.workers import CHUNK, Workers, chunks
from envs.tasks import make_env


@dataclass(frozen=True)
class PlayChunk:
    """What a worker is sent: plays one chunk of seeds with a policy of its own."""

    env_id: str
    policy_factory: Callable[[], Policy]
    max_steps: int | None
    keep_frames: bool

    def __call__(self, seeds: Sequence[int]) -> list[Rollout] | list[EpisodeScore]:
        make: Callable[[], gym.Env[Any, Any]] = functools.partial(
            make_env, self.env_id, max_episode_steps=self.max_steps
        )
        policy = self.policy_factory()
        if self.keep_frames:
            return play(make, policy, seeds, batch_size=CHUNK)
        return play(make, policy, seeds, batch_size=CHUNK, keep_frames=False)


@overload
def play_episodes(
    env_id: str,
    policy_factory: Callable[[], Policy],
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
    keep_frames: Literal[True] = True,
    report: Callable[[str], None] | None = None,
) -> Iterator[Rollout]: ...
@overload
def play_episodes(
    env_id: str,
    policy_factory: Callable[[], Policy],
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
    keep_frames: Literal[False],
    report: Callable[[str], None] | None = None,
) -> Iterator[EpisodeScore]: ...
def play_episodes(
    env_id: str,
    policy_factory: Callable[[], Policy],
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
    keep_frames: bool = True,
    report: Callable[[str], None] | None = None,
) -> Iterator[Any]:
    """One episode per seed, in the order of `seeds`; chunks of `CHUNK` are played side by side.

    `policy_factory` is called in the worker, once a chunk, and must pickle: a top-level
    function, or functools.partial of one over plain data and bytes. `max_steps` replaces the
    environment's own limit, in env steps. At most two chunks a worker are in memory. `report`
    gets one line after every chunk.
    """
    play_chunk = PlayChunk(env_id, policy_factory, max_steps, keep_frames)
    num_done, sum_of_returns, num_env_steps = 0, 0.0, 0
    for episodes in workers.map(play_chunk, chunks(seeds)):
        num_done += len(episodes)
        sum_of_returns += float(np.sum([episode.episode_return for episode in episodes]))
        num_env_steps += sum(episode.num_steps for episode in episodes)
        if report is not None:
            report(
                f"{num_done}/{len(seeds)} episodes, {num_env_steps:,} env steps, "
                f"mean return {sum_of_returns / num_done:.1f}"
            )
        yield from episodes
