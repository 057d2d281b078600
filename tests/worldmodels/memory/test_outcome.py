import math

import pytest
import torch

from worldmodels.memory import MemorySettings
from worldmodels.memory.outcome import NUM_VALUES, Outcome, OutcomeHead

VALUES = torch.tensor([-2.0, 0.0, 1.0, 5.0])


def certain(*rewards: float) -> Outcome:
    """Make the outcome that is most likely for given rewards, from their two-hot targets."""
    fractions = torch.zeros(len(rewards), 4)
    for row, reward in enumerate(rewards):
        upper = next(i for i in range(1, 4) if reward <= VALUES[i])
        fraction = (reward - VALUES[upper - 1]) / (VALUES[upper] - VALUES[upper - 1])
        fractions[row, upper - 1], fractions[row, upper] = 1 - fraction, fraction
    return Outcome(fractions.log(), VALUES, torch.zeros(len(rewards)))


def test_the_log_prob_of_a_reward_is_that_of_the_two_values_around_it() -> None:
    logits = torch.tensor([1.0, -0.5, 2.0, 0.3])
    outcome = Outcome(logits.expand(6, 4), VALUES, torch.zeros(6))
    p = logits.log_softmax(0)
    rewards = torch.tensor([-0.5, 0.0, 1.0, 4.0, -2.0, 5.0])
    expected = [
        0.25 * p[0] + 0.75 * p[1],
        p[1],
        p[2],
        0.25 * p[2] + 0.75 * p[3],
        p[0],
        p[3],
    ]
    torch.testing.assert_close(outcome.reward_log_prob(rewards), torch.stack(expected))


@pytest.mark.parametrize("batch", [(), (1,), (1, 1), (2, 3)])
def test_any_batch_is_as_many_rows(batch: tuple[int, ...]) -> None:
    outcome = Outcome(torch.randn(*batch, 4), VALUES, torch.randn(batch))
    rewards = torch.rand(batch) * 4
    together = outcome.reward_log_prob(rewards)
    assert together.shape == outcome.reward.shape == outcome.end_probability.shape == batch
    rows = Outcome(outcome.reward_logits.reshape(-1, 4), VALUES, outcome.end_logit.reshape(-1))
    torch.testing.assert_close(together.reshape(-1), rows.reward_log_prob(rewards.reshape(-1)))
    torch.testing.assert_close(outcome.reward.reshape(-1), rows.reward)


def test_the_expectation_of_two_hot_targets_is_the_reward() -> None:
    rewards = [-2.0, -0.7, 0.0, 0.25, 1.0, 3.9, 5.0]
    torch.testing.assert_close(certain(*rewards).reward, torch.tensor(rewards))
    # And no other distribution makes that reward likelier: the entropy bound is reached.
    best = certain(-0.5).reward_log_prob(torch.tensor([-0.5])).item()
    assert best == pytest.approx(0.25 * math.log(0.25) + 0.75 * math.log(0.75))


def test_rewards_beyond_the_range_count_as_its_ends() -> None:
    outcome = Outcome(torch.randn(2, 4), VALUES, torch.zeros(2))
    torch.testing.assert_close(
        outcome.reward_log_prob(torch.tensor([-100.0, 1e9])),
        outcome.reward_log_prob(torch.tensor([-2.0, 5.0])),
    )


def test_the_end_probability_is_its_logits() -> None:
    logits = torch.tensor([0.0, math.log(3.0), -50.0])
    outcome = Outcome(torch.zeros(3, 4), VALUES, logits)
    torch.testing.assert_close(outcome.end_probability, torch.tensor([0.5, 0.75, 0.0]))


def test_calibrated_it_begins_at_the_frequencies_of_the_data() -> None:
    rewards = torch.tensor([1.0] * 700 + [11.0] * 300)
    head = OutcomeHead(4)
    head.calibrate(rewards, torch.arange(1000) < 20)
    outcome = head(torch.randn(6, 4))  # whatever the state
    torch.testing.assert_close(outcome.reward, torch.full((6,), 4.0), atol=0.5, rtol=0)
    torch.testing.assert_close(outcome.end_probability, torch.full((6,), 0.02), atol=1e-3, rtol=0)
    chances = outcome.reward_logits[0].softmax(-1)
    top = chances.topk(2)
    torch.testing.assert_close(top.values, torch.tensor([0.7, 0.3]), atol=0.01, rtol=0)
    nearest = outcome.reward_values[top.indices]
    torch.testing.assert_close(nearest, torch.tensor([1.0, 11.0]), atol=1.0, rtol=0)
    assert chances.min() > 0  # what never came is dear, not impossible


def test_values_span_the_rewards_evenly_around_their_mean_and_finest_there() -> None:
    head = OutcomeHead(4)
    rewards = 30 + 5 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    head.calibrate(rewards, torch.zeros(1000, dtype=torch.bool))
    values = head(torch.zeros(4)).reward_values
    units = (values - rewards.mean()) / rewards.std(correction=0)
    assert len(units) == NUM_VALUES and units.diff().min() > 0
    torch.testing.assert_close(units, -units.flip(0), atol=1e-3, rtol=1e-4)
    assert units.max().item() == pytest.approx(math.expm1(5.0), rel=1e-3)
    assert units.diff().min().item() == pytest.approx(math.expm1(1 / 6), rel=1e-2)


def test_after_rewards_all_alike_others_are_still_within_reach() -> None:
    head = OutcomeHead(4)
    head.calibrate(torch.full((50,), 2.0), torch.zeros(50, dtype=torch.bool))
    outcome = head(torch.zeros(1, 4))
    assert outcome.reward.item() == pytest.approx(2.0, abs=0.1)
    far, farther = outcome.reward_log_prob(torch.tensor([3.0])), outcome.reward_values[-1]
    assert torch.isfinite(far).all() and farther > 100


def test_the_loss_weighs_its_parts_and_its_error_is_in_units_of_the_variance() -> None:
    head = OutcomeHead(4)
    head.calibrate(torch.tensor([1.0, 3.0, 5.0]), torch.zeros(3, dtype=torch.bool))
    torch.nn.init.normal_(head.linear.weight)
    outcome = head(torch.randn(2, 4))
    rewards, terminated = torch.tensor([7.0, 2.0]), torch.tensor([True, False])
    nll = torch.tensor(10.0)
    settings = MemorySettings(reward_weight=0.5, end_weight=2.0)
    loss, metrics = head.add_to(nll, outcome, rewards, terminated, settings)
    p = outcome.end_probability
    end = -(p[0].log() + (1 - p[1]).log()) / 2
    reward = -outcome.reward_log_prob(rewards).mean()
    error = (outcome.reward - rewards).square().mean() / (8 / 3)
    torch.testing.assert_close(loss, nll + 0.5 * reward + 2.0 * end)
    expected = {"nll": nll, "reward_nll": reward, "end_nll": end, "reward_error": error}
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value, msg=name)


def test_it_learns_what_a_state_pays_on_average_and_where_episodes_end() -> None:
    """A coin decides half of the reward, and M learns the expectation, not the likeliest value."""
    torch.manual_seed(0)
    hidden = torch.rand(2000, 2) * 2 - 1
    coin = (torch.rand(2000) < 0.25).float()
    rewards = 100 + 20 * hidden[:, 0] + 40 * coin
    terminated = hidden[:, 1] > 0.5
    head = OutcomeHead(2)
    head.calibrate(rewards, terminated)
    optimizer = torch.optim.Adam(head.parameters(), 0.1)
    zero = torch.zeros(())
    for _ in range(200):
        loss, metrics = head.add_to(zero, head(hidden), rewards, terminated, MemorySettings())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    probes = torch.tensor([[-0.8, 0.0], [0.0, 0.9], [0.8, -0.9]])
    outcome = head(probes)
    expected = 110 + 20 * probes[:, 0]
    torch.testing.assert_close(outcome.reward, expected, atol=4.0, rtol=0)
    noise = 40**2 * 0.25 * 0.75 / rewards.var(correction=0)  # what no head could know
    assert metrics["reward_error"].item() == pytest.approx(noise.item(), rel=0.1)
    assert outcome.end_probability[1] > 0.9 and (outcome.end_probability[[0, 2]] < 0.1).all()
