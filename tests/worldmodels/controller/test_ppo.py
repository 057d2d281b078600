"""PPO learns from dreams, makes new dreams after some updates, and can be resumed exactly."""

import functools
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal

from tests.fixtures.reward_world import BEST, MAPS, controller, reward_of, reward_world, starts
from tests.fixtures.tiny_models import world
from worldmodels.controller.actor_critic import DreamTask, continuation_probs, lambda_returns
from worldmodels.controller.ppo import PPOActorCritic, PPOConfig, standardized
from worldmodels.controller.rewards import RewardScale
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.errors import UserError
from worldmodels.training.fit import FitConfig, FitResult, Metrics, fit, step_generator


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learner(
    dream: DreamModel,
    actions: str = "discrete",
    *,
    num_dreams: int = 6,
    num_steps: int = 20,
    seed: int = 0,
    **settings: Any,
) -> PPOActorCritic:
    torch.manual_seed(seed)
    config = PPOConfig(**{"horizon": 4, "critic_width": 16, "num_updates": 5, **settings})
    action_map = MAPS[actions]
    task = DreamTask(controller(dream, action_map), action_map, dream, RewardScale(0.975, 2.0))
    return PPOActorCritic(config, task, FitConfig(num_steps, num_dreams))


def steps_of(
    made: PPOActorCritic, count: int, *, num_dreams: int = 6, rate: float = 1e-2
) -> Iterator[dict[str, Tensor]]:
    """Make `count` updates, and yield the metrics of each update."""
    optimizer = torch.optim.Adam(made.parameters(), lr=rate)
    for step in range(count):
        first = starts(made.task.dream, num_dreams, seed=step)
        loss, metrics = made.loss(first, step_generator(0, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield metrics


@pytest.mark.parametrize(
    ("kind", "actions"), [("fsq", "continuous"), ("fsq", "discrete"), ("vae", "discrete")]
)
def test_it_learns_to_do_what_the_dream_pays(kind: str, actions: str) -> None:
    dream = reward_world(kind)
    made = learner(
        dream,
        actions,
        num_dreams=64,
        num_steps=240,
        horizon=5,
        num_updates=12,
        ema_rate=0.05,
    )
    reward = functools.partial(reward_of, dream, made.task.controller, made.task.action_map)
    drawn = torch.randn(5, 1, made.task.controller.num_parameters, generator=draw(0))
    at_first = reward(made.ema_params)
    best_of_random = max(reward(each) for each in drawn)
    for _ in steps_of(made, 240, num_dreams=64, rate=2e-2):
        pass
    learned = reward(made.ema_params)
    assert max(at_first, best_of_random) + 0.1 < learned < BEST


def test_every_batch_of_dreams_serves_so_many_updates() -> None:
    made = learner(DreamModel(*world("fsq")), num_updates=3)
    seen, output = [], []
    for metrics in steps_of(made, 9):
        seen.append(made.features.clone())
        output.append(metrics["dreamed_return"].item())
    for step in range(1, 9):
        anew = step % 3 == 0
        assert torch.equal(seen[step], seen[step - 1]) != anew
        assert (output[step] == output[step - 1]) != anew
    assert made.step == 9
    assert made.agent_steps_per_update(6) == 4 * 6 / 3


def test_what_is_kept_of_dreams_belongs_together() -> None:
    dream = DreamModel(*world("vae"))
    made = learner(dream, "continuous")
    first = starts(dream, 6)
    made.loss(first, draw(0))
    with torch.no_grad():
        features, sampled_outputs, rewards, weight = made.dreams(first, 4, 0.5, draw(0))
        values = made.values(features)
        returns = lambda_returns(rewards, values[1:], 0.975 * continuation_probs(weight), 0.95)
        better = returns - values[:-1]
        likely = Normal(made.outputs(features[:-1].flatten(0, 1)), 0.5)
    assert torch.equal(made.features.view(4, 6, -1), features[:-1])
    assert torch.equal(made.sampled_outputs.view(4, 6, -1), sampled_outputs)
    assert torch.equal(made.weight.view(4, 6), weight[:-1]) and weight[:-1].unique().numel() > 4
    torch.testing.assert_close(made.returns.view(4, 6), returns)
    before = weight[:-1]
    mean = (before * better).sum() / before.sum()
    spread = ((before * (better - mean).square()).sum() / before.sum()).sqrt()
    expected = (better - mean) / spread
    torch.testing.assert_close(made.advantages.view(4, 6), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made.log_likelihood, likely.log_prob(made.sampled_outputs).sum(-1))
    mean_return = 2.0 * (weight[:-1] * rewards).sum(0).mean()
    torch.testing.assert_close(made.mean_return, mean_return)


def test_the_noise_falls_from_the_first_to_the_last_step() -> None:
    made = learner(DreamModel(*world("fsq")), num_steps=21, noise=0.8, final_action_std=0.2)
    noises = [made.noise_at(step) for step in range(21)]
    assert noises[0] == 0.8 and noises[-1] == pytest.approx(0.2)
    assert noises[10] == pytest.approx(0.4)
    assert noises == sorted(noises, reverse=True)
    assert made.noise_at(100) == pytest.approx(0.2)
    assert learner(DreamModel(*world("fsq")), num_steps=1).noise_at(0) == 0.5


def log_likelihood(made: PPOActorCritic, rows: slice) -> Tensor:
    """Compute the log-likelihood of sampled outputs by the definition of their distribution."""
    outputs, sampled = made.outputs(made.features[rows]), made.sampled_outputs[rows]
    if made.task.action_map.discrete:
        found: Tensor = Categorical(logits=outputs).log_prob(sampled.argmax(-1))
    else:
        found = Normal(outputs, made.noise_at(0)).log_prob(sampled).sum(-1)
    return found


def test_discrete_actions_are_sampled_with_the_probabilities_of_a_softmax() -> None:
    made = learner(DreamModel(*world("fsq")))
    outputs = torch.tensor([[1.0, 0.0, -1.0]]).expand(20_000, 3)
    chosen = made.explore(outputs, 0.5, draw(0))
    assert chosen.unique().tolist() == [0.0, 1.0] and (chosen.sum(-1) == 1).all()
    torch.testing.assert_close(chosen.mean(0), outputs[0].softmax(-1), atol=0.01, rtol=0)


def test_among_discrete_actions_entropy_is_worth_its_weight() -> None:
    made = learner(DreamModel(*world("fsq")), max_gradient_norm=1e9, entropy_weight=0.5)
    torch.nn.init.normal_(made.actor)
    made.loss(starts(made.task.dream, 6), draw(0))
    made.advantages.fill_(0.0)
    for rows in (made.features, made.weight):
        rows[:] = rows[0].clone()
    certain = Categorical(logits=made.outputs(made.features[:1])).entropy().sum()
    (expected,) = torch.autograd.grad(0.5 * made.weight[0] * certain, made.actor)
    loss, _ = made.loss(starts(made.task.dream, 6), draw(0))
    loss.backward()
    assert made.actor.grad is not None and expected.norm() > 0.01
    torch.testing.assert_close(-made.actor.grad, expected, rtol=1e-3, atol=1e-5)


def test_a_batch_is_judged_by_the_noise_it_was_dreamed_with() -> None:
    made = learner(DreamModel(*world("fsq")), "continuous", num_dreams=100, num_steps=11, noise=0.8)
    for _ in steps_of(made, 7, num_dreams=100, rate=1e-9):
        pass
    noise = made.noise_at(5)  # the second batch is dreamed for the sixth update
    likely = Normal(made.outputs(made.features), noise)
    assert (made.sampled_outputs - likely.mean).std().item() == pytest.approx(noise, rel=0.1)
    expected = likely.log_prob(made.sampled_outputs).sum(-1)
    torch.testing.assert_close(made.log_likelihood, expected, rtol=1e-3, atol=1e-3)


def climbed(
    advantage: float, log_ratio: float, weight: float = 1.0, actions: str = "continuous"
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return C's ascent direction for a batch of equal rows, and a row's log-likelihood gradient.

    The third output holds the metrics of the update.
    """
    made = learner(DreamModel(*world("fsq")), actions, max_gradient_norm=1e9, entropy_weight=0.0)
    made.loss(starts(made.task.dream, 6), draw(0))
    for rows in (made.features, made.sampled_outputs):
        rows[:] = rows[0].clone()
    likely = log_likelihood(made, slice(1))
    made.log_likelihood.fill_(likely.item() - log_ratio)
    made.advantages.fill_(advantage)
    made.weight.fill_(weight)
    (gradient,) = torch.autograd.grad(likely.sum(), made.actor)
    loss, metrics = made.loss(starts(made.task.dream, 6), draw(0))
    loss.backward()
    assert made.actor.grad is not None
    return -made.actor.grad, gradient, metrics


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize(("advantage", "log_ratio"), [(1, 0.0), (-1, 0.0), (1, -0.7), (-2, 0.7)])
def test_outputs_become_likelier_as_far_as_they_were_better(
    advantage: int, log_ratio: float, actions: str
) -> None:
    policy_loss, gradient, _ = climbed(float(advantage), log_ratio, actions=actions)
    ratio = torch.tensor(log_ratio).exp()
    torch.testing.assert_close(policy_loss, advantage * ratio * gradient, rtol=1e-3, atol=1e-5)
    assert gradient.norm() > 0.1


@pytest.mark.parametrize(("advantage", "log_ratio"), [(1.0, 0.7), (-1.0, -0.7)])
def test_what_has_changed_enough_is_left_alone(advantage: float, log_ratio: float) -> None:
    policy_loss, _, metrics = climbed(advantage, log_ratio)
    assert not policy_loss.any() and metrics["value_error"] > 0


@pytest.mark.parametrize(
    ("advantage", "ratio", "counts"),
    [(1.0, 1.19, True), (1.0, 1.21, False), (-1.0, 0.81, True), (-1.0, 0.79, False)],
)
def test_the_clip_range_reaches_as_far_below_1_as_above(
    advantage: float, ratio: float, counts: bool
) -> None:
    policy_loss, gradient, _ = climbed(advantage, math.log(ratio))
    expected = advantage * ratio * gradient if counts else torch.zeros_like(gradient)
    torch.testing.assert_close(policy_loss, expected, rtol=1e-3, atol=1e-5)


def test_agent_steps_after_an_end_do_not_move_the_advantages_of_the_others() -> None:
    numbers, weight = torch.randn(4, 6, generator=draw(0)), torch.ones(4, 6)
    weight[2:, :3] = 0.0  # half of the dreams end after two agent steps
    counted = weight > 0
    found = standardized(numbers, weight)
    numbers[~counted] = 1e4
    torch.testing.assert_close(standardized(numbers, weight)[counted], found[counted])
    std, mean = torch.std_mean(found[counted], correction=0)
    assert mean.item() == pytest.approx(0.0, abs=1e-6) and std.item() == pytest.approx(
        1.0, rel=1e-5
    )


def test_nothing_is_learned_where_the_dream_had_ended() -> None:
    policy_loss, _, metrics = climbed(1.0, 0.0, weight=0.0)
    assert not policy_loss.any() and metrics["value_error"] == 0
    half, gradient, _ = climbed(1.0, 0.0, weight=0.5)
    torch.testing.assert_close(half, 0.5 * gradient, rtol=1e-3, atol=1e-5)


FIT = FitConfig(num_steps=13, batch_size=6, learning_rate=1e-2, validate_every=13)


def fit_learner(made: PPOActorCritic, folder: Path, stop_at: int | None = None) -> FitResult:
    def batch_at(step: int, generator: torch.Generator) -> DreamState:
        return starts(made.task.dream, 6, seed=int(generator.initial_seed() % 1000))

    def press(step: int, metrics: Metrics) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    return fit(made, batch_at, lambda: {"loss": 0.0}, FIT, seed=0, folder=folder, on_step=press)


@pytest.mark.parametrize("stop_at", [2, 5, 9], ids=["between uses", "before dreams", "later"])
def test_a_search_stopped_between_uses_of_its_dreams_resumes_to_the_same_bits(
    tmp_path: Path, stop_at: int
) -> None:
    dream = DreamModel(*world("fsq"))
    undisturbed = learner(dream)
    fit_learner(undisturbed, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        fit_learner(learner(dream), tmp_path / "b", stop_at)
    resumed = learner(dream, seed=9)
    fit_learner(resumed, tmp_path / "b")
    assert resumed.step == 13
    state = resumed.state_dict()
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"final_action_std": 0.6},
            r"expected final_action_std above 0 and at most 0\.5, got 0\.6",
        ),
        (
            {"final_action_std": 0.0},
            r"expected final_action_std above 0 and at most 0\.5, got 0\.0",
        ),
        ({"num_updates": 0}, "num_updates must be at least 1, got 0"),
        ({"minibatch_fraction": 0.0}, r"minibatch_fraction must be above 0, got 0\.0"),
        ({"clip_range": 1.1}, r"clip_range must be between 0 and 1, got 1\.1"),
        ({"discount": 2.0}, r"discount must be between 0 and 1, got 2\.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PPOConfig(**settings)
