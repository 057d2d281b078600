"""The discount and the unit of rewards, which are computed from the data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch

# C looks ahead over this many events on average, within these limits in agent steps.
EVENTS_AHEAD = 3.0
LOOK_AHEAD_LIMITS = (40.0, 200.0)


@dataclass(frozen=True)
class RewardScale:
    """The discount of future rewards, and the unit of rewards.

    Attributes:
        discount: weight of the next agent step's reward relative to the weight of the present
            reward.
        unit: number by which rewards are divided, so that discounted returns have a standard
            deviation of 1.
    """

    discount: float
    unit: float

    @classmethod
    def of_episodes(cls, sequences: SequenceBatch, discount: float | None = None) -> "RewardScale":
        """Compute the scale from real episodes.

        Args:
            discount: the discount. If `discount` is None, the discount is computed so that
                1 / (1 - discount) agent steps contain `EVENTS_AHEAD` events on average, within the
                limits `LOOK_AHEAD_LIMITS`.
        """
        if discount is None:
            low, high = LOOK_AHEAD_LIMITS
            steps = EVENTS_AHEAD * steps_per_event(sequences)
            discount = 1.0 - 1.0 / min(max(steps, low), high)
        returns = discounted_returns(sequences, discount)
        spread = float(returns.std(correction=0))
        is_equal = spread <= 1e-6 * float(returns.abs().max())
        return cls(discount, 1.0 if is_equal else spread)


def steps_per_event(sequences: SequenceBatch) -> float:
    """Return the mean number of agent steps per event, or all agent steps if there is no event.

    An agent step is an event if its reward differs from the median reward, or if the env terminates
    the episode at this step.
    """
    rewards, terminated = sequences.rewards[sequences.mask], sequences.terminated[sequences.mask]
    event = terminated | (rewards != rewards.median())
    return len(rewards) / max(int(event.sum()), 1)


def discounted_returns(sequences: SequenceBatch, discount: float) -> Float[Tensor, "agent_step"]:
    """Return, for each real agent step, the discounted sum of all rewards from this step on."""
    rewards = sequences.rewards * sequences.mask
    total, returns = torch.zeros(len(sequences)), torch.zeros_like(rewards)
    for step in reversed(range(rewards.shape[1])):
        total = rewards[:, step] + discount * total
        returns[:, step] = total
    return returns[sequences.mask]
