"""Many episodes over workers, streamed in the order of their seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from agents.policy import Policy
from agents.rollout import Rollout, play
from agents.workers import CHUNK, Workers, chunks
from envs.config import EnvConfig
from envs.make import make_env

Result = TypeVar("Result")


@runtime_checkable
class EpisodePolicyFactory(Protocol):
    """A policy factory that must know which episodes its policy will play, by their seeds."""

    def for_episodes(self, seeds: Sequence[int]) -> Policy:
        """A policy of `CHUNK` rows, row i for the episode of `seeds[i]`; further rows idle."""


PolicyFactory = Callable[[], Policy] | EpisodePolicyFactory


@dataclass(frozen=True)
class PlayChunk(Generic[Result]):
    """What a worker is sent: plays one chunk of seeds with a policy of its own.

    All of it must pickle.

    Attributes:
        policy_factory: called once per chunk: a top-level function, or functools.partial of one
            over plain data and bytes; one that has `for_episodes` is given the chunk's seeds.
        max_steps: env steps that end an episode before the environment's own limit does.
        play: `agents.rollout.play`, `play_scores`, or a function with the same parameters.
        perturbation: one of `envs.perturbations.PERTURBATIONS`.
    """

    env: str | EnvConfig
    policy_factory: PolicyFactory
    max_steps: int | None
    play: Callable[..., list[Result]]
    perturbation: str | None = None

    def __call__(self, seeds: Sequence[int]) -> list[Result]:
        """What is left of the episodes of up to `CHUNK` seeds, in their order."""
        make = functools.partial(make_env, self.env, perturbation=self.perturbation)
        factory = self.policy_factory
        if isinstance(factory, EpisodePolicyFactory):
            policy = factory.for_episodes(seeds)
        else:
            policy = factory()
        return self.play(make, policy, seeds, max_steps=self.max_steps, batch_size=CHUNK)

    def episodes(self, seeds: Sequence[int], workers: Workers) -> Iterator[Result]:
        """One result per seed, in the order of `seeds`; at most two chunks a worker in memory."""
        for results in workers.map(self, chunks(seeds)):
            yield from results


def play_episodes(
    env: str | EnvConfig,
    policy_factory: PolicyFactory,
    seeds: Sequence[int],
    *,
    workers: Workers,
    max_steps: int | None = None,
) -> Iterator[Rollout]:
    """One episode per seed, in the order of `seeds`; see `PlayChunk`."""
    return PlayChunk(env, policy_factory, max_steps, play).episodes(seeds, workers)


@dataclass(frozen=True)
class TransformedPlay(Generic[Result]):
    """Plays episodes as `agents.rollout.play`, and returns what `transform` makes of each.

    In a worker, what takes time then takes it in all of them at once, and a rollout's frames,
    12 MB for 1,000 steps, need not travel.
    """

    transform: Callable[[Rollout], Result]

    def __call__(self, *arguments: Any, **settings: Any) -> list[Result]:
        """The parameters are those of `play`."""
        return [self.transform(rollout) for rollout in play(*arguments, **settings)]
