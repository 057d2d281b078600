"""Evaluation of a policy: the mean and the spread of its returns over the episodes of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from agents.collecting import PlayChunk
from agents.policy import Policy
from agents.protocol import EvaluationProtocol
from agents.rollout import EpisodeScore, play_scores
from agents.workers import Workers


def sample_std(values: Sequence[float] | NDArray[Any]) -> float | None:
    """Return the sample standard deviation (with divisor n - 1), or None for a single value.

    Every reported standard deviation over episodes is computed by this function. For a single
    value, the result is None and not nan, because JSON has null but no nan.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers.std(ddof=1)) if len(numbers) > 1 else None


@dataclass(frozen=True)
class Scores:
    """The return and the length of each episode that one policy played in a split.

    The lengths are in env steps. A split is a range of seeds, see `agents.seeds`.

    Raises ValueError if `seeds`, `returns`, `lengths`, `terminated` and `truncated` are empty or
    differ in length.
    """

    policy: str
    env_id: str
    split: str
    action_repeat: int
    gymnasium_version: str
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    terminated: tuple[bool, ...]
    truncated: tuple[bool, ...]

    def __post_init__(self) -> None:
        lists = (self.seeds, self.returns, self.lengths, self.terminated, self.truncated)
        sizes = list(map(len, lists))
        if len(set(sizes)) != 1 or sizes[0] == 0:
            raise ValueError(
                "expected seeds, returns, lengths, terminated and truncated of the same "
                f"length, which must be at least 1, got the lengths {sizes}"
            )

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the returns; None for a single episode."""
        return sample_std(self.returns)

    @property
    def env_steps(self) -> int:
        """Total number of env steps of all episodes."""
        return sum(self.lengths)

    @property
    def confidence_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the mean return, from Student's t distribution.

        The interval is None for a single episode.
        """
        std, num_episodes = self.std, len(self.returns)
        if std is None:
            return None
        half_width = float(stdtrit(num_episodes - 1, 0.975)) * std / math.sqrt(num_episodes)
        return self.mean - half_width, self.mean + half_width

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as a dictionary of JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Restore scores from the dictionary of `to_dict`; lists may replace tuples."""
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**values)


def evaluate(
    protocol: EvaluationProtocol,
    policy_factory: Callable[[], Policy],
    workers: Workers,
    *,
    max_steps: int | None = None,
    on_episodes: Callable[[int], None] | None = None,
) -> Scores:
    """Play the episodes of a protocol, and return the policy's scores.

    Args:
        policy_factory, max_steps: as in `PlayChunk`.
        on_episodes: function that is called after each episode, with the number of finished
            episodes.
    """
    play_chunk = PlayChunk(
        protocol.env, policy_factory, max_steps, play_scores, protocol.perturbation
    )
    results: list[EpisodeScore] = []
    for score in play_chunk.episodes(protocol.seeds, workers):
        results.append(score)
        if on_episodes is not None:
            on_episodes(len(results))
    return Scores(
        policy=results[0].policy,
        env_id=results[0].env_id,
        split=protocol.purpose,
        action_repeat=results[0].action_repeat,
        gymnasium_version=gym.__version__,
        seeds=tuple(result.seed for result in results),
        returns=tuple(result.episode_return for result in results),
        lengths=tuple(result.num_steps for result in results),
        terminated=tuple(result.terminated for result in results),
        truncated=tuple(result.truncated for result in results),
    )
