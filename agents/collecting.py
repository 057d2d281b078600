"""Play many episodes with workers, and yield the episodes in the order of the given seeds."""

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
    """A policy factory that receives the seeds of the episodes that its policy plays."""

    def for_episodes(self, seeds: Sequence[int]) -> Policy:
        """Return a policy for a batch of `CHUNK` environments.

        Row i of the batch plays the episode of `seeds[i]`. Rows without a seed are not used.
        """


PolicyFactory = Callable[[], Policy] | EpisodePolicyFactory


@dataclass(frozen=True)
class PlayChunk(Generic[Result]):
    """A task for workers: play the episodes of one chunk of seeds with a new policy.

    All fields must be picklable.

    Attributes:
        policy_factory: returns a new policy, and is called once per chunk. The factory is a
            top-level function, or a functools.partial of a top-level function with plain data and
            bytes as arguments. If the factory has a method `for_episodes`, this method is called
            with the chunk's seeds, and the factory itself is not called.
        max_steps: number of env steps after which an episode is truncated. If `max_steps` is None,
            only the environment's own limit applies.
        play: function that plays the chunk's episodes: `agents.rollout.play`,
            `agents.rollout.play_scores`, or a function with the same parameters.
        perturbation: name of a perturbation in `envs.perturbations.PERTURBATIONS`, or None for no
            perturbation.
    """

    env: str | EnvConfig
    policy_factory: PolicyFactory
    max_steps: int | None
    play: Callable[..., list[Result]]
    perturbation: str | None = None

    def __call__(self, seeds: Sequence[int]) -> list[Result]:
        """Play the episodes of up to `CHUNK` seeds; return the results in the seeds' order."""
        make = functools.partial(make_env, self.env, perturbation=self.perturbation)
        factory = self.policy_factory
        if isinstance(factory, EpisodePolicyFactory):
            policy = factory.for_episodes(seeds)
        else:
            policy = factory()
        return self.play(make, policy, seeds, max_steps=self.max_steps, batch_size=CHUNK)

    def episodes(self, seeds: Sequence[int], workers: Workers) -> Iterator[Result]:
        """Yield one result per seed, in the order of `seeds`.

        At most two chunks per worker are in memory at the same time.
        """
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
    """Yield one episode per seed, in the order of `seeds`; `PlayChunk` describes the parameters."""
    return PlayChunk(env, policy_factory, max_steps, play).episodes(seeds, workers)


@dataclass(frozen=True)
class TransformedPlay(Generic[Result]):
    """Plays episodes as `agents.rollout.play` does, and transforms each resulting rollout.

    In worker processes, the transforms run in parallel, and only their results are sent to the
    parent process. The frames of a rollout (12 MB per 1,000 env steps) are not sent between
    processes.
    """

    transform: Callable[[Rollout], Result]

    def __call__(self, *arguments: Any, **settings: Any) -> list[Result]:
        """Pass all arguments to `agents.rollout.play`, and transform each rollout."""
        return [self.transform(rollout) for rollout in play(*arguments, **settings)]
