"""Many episodes over workers, streamed in the order of their seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, overload, runtime_checkable

import gymnasium as gym

from agents.policy import Policy
from agents.rollout import EpisodeScore, Rollout, play
from agents.workers import CHUNK, Workers, chunks
from envs.config import EnvConfig
from envs.make import make_env
from envs.measures import Measure

Result = TypeVar("Result")


@runtime_checkable
class EpisodePolicyFactory(Protocol):
    """A policy factory that must know which episodes its policy will play, by their seeds."""

    def for_episodes(self, seeds: Sequence[int]) -> Policy:
        """A policy of `CHUNK` rows, row i for the episode of `seeds[i]`; further rows idle."""


PolicyFactory = Callable[[], Policy] | EpisodePolicyFactory


@dataclass(frozen=True)
class PlayChunk:
    """What a worker is sent: plays one chunk of seeds with a policy of its own."""

    env: str | EnvConfig
    policy_factory: PolicyFactory
    max_steps: int | None
    keep_frames: bool
    transform: Callable[[Rollout], Any] | None = None
    measures: tuple[Measure, ...] = ()
    perturbation: str | None = None

    def __call__(self, seeds: Sequence[int]) -> list[Any]:
        """The episodes of up to `CHUNK` seeds, in their order, each as `transform` makes it."""
        make: Callable[[], gym.Env[Any, Any]] = functools.partial(
            make_env, self.env, perturbation=self.perturbation
        )
        factory = self.policy_factory
        if isinstance(factory, EpisodePolicyFactory):
            policy = factory.for_episodes(seeds)
        else:
            policy = factory()
        if self.keep_frames:
            rollouts = play(make, policy, seeds, max_steps=self.max_steps, batch_size=CHUNK)
            return (
                rollouts if self.transform is None else [self.transform(each) for each in rollouts]
            )
        return play(
            make,
            policy,
            seeds,
            max_steps=self.max_steps,
            keep_frames=False,
            batch_size=CHUNK,
            measures=self.measures,
        )


@overload
def play_episodes(
    env: str | EnvConfig,
    policy_factory: PolicyFactory,
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
    keep_frames: Literal[True] = True,
) -> Iterator[Rollout]: ...
@overload
def play_episodes(
    env: str | EnvConfig,
    policy_factory: PolicyFactory,
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
    keep_frames: Literal[False],
    perturbation: str | None = None,
) -> Iterator[EpisodeScore]: ...
@overload
def play_episodes(
    env: str | EnvConfig,
    policy_factory: PolicyFactory,
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
    transform: Callable[[Rollout], Result],
) -> Iterator[Result]: ...
def play_episodes(
    env: str | EnvConfig,
    policy_factory: PolicyFactory,
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
    keep_frames: bool = True,
    transform: Callable[[Rollout], Any] | None = None,
    perturbation: str | None = None,
) -> Iterator[Any]:
    """One episode per seed, in the order of `seeds`; chunks of `CHUNK` are played side by side.

    `policy_factory` is called in the worker, once a chunk, and must pickle: a top-level
    function, or functools.partial of one over plain data and bytes; one that has `for_episodes`
    is told the chunk's seeds. `max_steps` env steps end an episode before the environment's own
    limit does. At most two chunks a worker are in memory.

    `transform` turns each rollout into what is yielded in its place, in the worker: what takes
    time then takes it in all of them at once, and a rollout's frames, 12 MB for 1,000 steps, need
    not travel. It must pickle, too.

    `perturbation` is one of `envs.perturbations.PERTURBATIONS`.
    """
    play_chunk = PlayChunk(
        env, policy_factory, max_steps, keep_frames, transform, perturbation=perturbation
    )
    for episodes in workers.map(play_chunk, chunks(seeds)):
        yield from episodes
