"""The discount and the unit of rewards follow from the data."""

import pytest
import torch

from worldmodels.controller.rewards import RewardScale, discounted_returns, steps_per_event
from worldmodels.data.sequences import SequenceBatch


def batch(rewards: list[list[float]], ends: bool = True) -> SequenceBatch:
    """Make padded episodes with these rewards; if `ends`, every episode terminates, else none."""
    longest = max(map(len, rewards))
    padded, mask = torch.zeros(len(rewards), longest), torch.zeros(len(rewards), longest)
    terminated = torch.zeros(len(rewards), longest, dtype=torch.bool)
    for row, values in enumerate(rewards):
        padded[row, : len(values)] = torch.tensor(values)
        mask[row, : len(values)] = 1
        terminated[row, len(values) - 1] = ends
    posteriors, actions = torch.zeros(len(rewards), longest + 1, 2), torch.zeros(*mask.shape, 1)
    return SequenceBatch(posteriors, actions, padded, terminated, mask.bool())


def test_returns_are_sums_of_later_rewards_within_the_episode() -> None:
    found = discounted_returns(batch([[1.0, 2.0, 4.0], [8.0]]), 0.5)
    torch.testing.assert_close(found, torch.tensor([3.0, 4.0, 4.0, 8.0]))


def test_an_event_is_an_unusual_reward_or_an_end() -> None:
    assert steps_per_event(batch([[1.0] * 30, [1.0] * 10])) == 20
    assert steps_per_event(batch([[0.0] * 30, [0.0] * 10], ends=False)) == 40
    assert steps_per_event(batch([[0.0, 0.0, 1.0, 0.0]], ends=False)) == 4


@pytest.mark.parametrize(
    ("steps", "look_ahead"), [(2, 40.0), (20, 60.0), (50, 150.0), (1_000, 200.0)]
)
def test_c_looks_ahead_over_a_few_events(steps: int, look_ahead: float) -> None:
    scale = RewardScale.of_episodes(batch([[1.0] * steps]))
    assert scale.discount == pytest.approx(1 - 1 / look_ahead)
    assert RewardScale.of_episodes(batch([[1.0] * steps]), 0.9).discount == 0.9


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_rewards_of_any_scale_have_returns_of_unit_spread(scale: float) -> None:
    episodes = batch([[scale] * 40, [scale] * 7])
    found = RewardScale.of_episodes(episodes)
    returns = discounted_returns(episodes, found.discount) / found.unit
    assert returns.std(correction=0).item() == pytest.approx(1.0, rel=1e-4)


def test_without_any_reward_the_unit_is_that_of_the_environment() -> None:
    assert RewardScale.of_episodes(batch([[0.0] * 5])).unit == 1.0
