"""Play many episodes over workers, and yield them in the order of their seeds."""

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
    """A policy factory that needs the seeds of the episodes that its policy will play."""

    def for_episodes(self, seeds: Sequence[int]) -> Policy:
        """Return a policy of `CHUNK` rows; row i plays `seeds[i]`, further rows are not used."""


PolicyFactory = Callable[[], Policy] | EpisodePolicyFactory


@dataclass(frozen=True)
class PlayChunk(Generic[Result]):
    """A call for a worker, which plays one chunk of seeds with a policy of its own.

    All fields must be picklable.

    Attributes:
        policy_factory: called once per chunk. It is a top-level function, or a functools.partial of
            one over plain data and bytes. If it has `for_episodes`, this is called with the chunk's
            seeds.
        max_steps: env steps after which an episode is truncated; None leaves the environment's own
            limit.
        play: `agents.rollout.play`, `play_scores`, or a function with the same parameters.
        perturbation: one of `envs.perturbations.PERTURBATIONS`.
    """

    env: str | EnvConfig
    policy_factory: PolicyFactory
    max_steps: int | None
    play: Callable[..., list[Result]]
    perturbation: str | None = None

    def __call__(self, seeds: Sequence[int]) -> list[Result]:
        """Play the episodes of up to `CHUNK` seeds, and return their results in order."""
        make = functools.partial(make_env, self.env, perturbation=self.perturbation)
        factory = self.policy_factory
        if isinstance(factory, EpisodePolicyFactory):
            policy = factory.for_episodes(seeds)
        else:
            policy = factory()
        return self.play(make, policy, seeds, max_steps=self.max_steps, batch_size=CHUNK)

    def episodes(self, seeds: Sequence[int], workers: Workers) -> Iterator[Result]:
        """Yield one result per seed, in order; memory holds at most two chunks per worker."""
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
    """Yield one episode per seed, in the order of `seeds`; see `PlayChunk`."""
    return PlayChunk(env, policy_factory, max_steps, play).episodes(seeds, workers)


@dataclass(frozen=True)
class TransformedPlay(Generic[Result]):
    """Plays episodes like `agents.rollout.play`, and returns `transform` of each rollout.

    In workers, the transforms are thus executed in parallel, and a rollout's frames, 12 MB for
    1,000 steps, are not sent between processes.
    """

    transform: Callable[[Rollout], Result]

    def __call__(self, *arguments: Any, **settings: Any) -> list[Result]:
        """Play with the parameters of `play`, and transform each rollout."""
        return [self.transform(rollout) for rollout in play(*arguments, **settings)]
