"""The parts that both gradient searches share are compared with plain definitions."""

from typing import Any

import pytest
import torch
from torch import Tensor

from agents.controller import ControllerConfig, apply_action_map, control
from tests.fixtures.reward_world import MAPS, controller, starts
from tests.fixtures.tiny_models import world
from worldmodels.controller.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    DreamTask,
    continuation_probs,
    init_parameters,
    lambda_returns,
)
from worldmodels.controller.rewards import RewardScale
from worldmodels.dream.model import DreamModel
from worldmodels.errors import UserError

KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learner(
    kind: str = "vae",
    temperature: float = 1.0,
    sees: ControllerConfig | None = None,
    start: Tensor | None = None,
    **settings: Any,
) -> ActorCritic:
    dream = DreamModel(*world(kind), temperature)
    sizes = sees or controller(dream, MAPS["continuous"], hidden=4)
    config = ActorCriticConfig(critic_width=8, **settings)
    return ActorCritic(
        config, DreamTask(sizes, MAPS["continuous"], dream, RewardScale(0.975, 2.0), start)
    )


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=draw(seed))


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_a_return_mixes_all_the_ways_to_end_in_a_value(lambda_: float) -> None:
    rewards, values = numbers(5, 2, seed=0), numbers(5, 2, seed=1)
    continues = torch.rand(5, 2, generator=draw(2))

    def ending_after(first: int, last: int) -> Tensor:
        total, weight = torch.zeros(2), torch.ones(2)
        for step in range(first, last + 1):
            total = total + weight * rewards[step]
            weight = weight * continues[step]
        return total + weight * values[last]

    expected = [
        sum(
            (
                lambda_ ** (last - first)
                * (1.0 if last == 4 else 1.0 - lambda_)
                * ending_after(first, last)
                for last in range(first, 5)
            ),
            torch.zeros(2),
        )
        for first in range(5)
    ]
    returns = lambda_returns(rewards, values, continues, lambda_)
    torch.testing.assert_close(returns, torch.stack(expected))


def test_returns_trust_the_next_value_alone_or_the_last_one_alone() -> None:
    rewards, values = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[10.0], [20.0], [40.0]])
    continues = torch.full((3, 1), 0.5)
    assert lambda_returns(rewards, values, continues, 0.0).flatten().tolist() == [6.0, 12.0, 24.0]
    whole = [1 + 0.5 * 2 + 0.25 * 4 + 0.125 * 40, 2 + 0.5 * 4 + 0.25 * 40, 4 + 0.5 * 40]
    assert lambda_returns(rewards, values, continues, 1.0).flatten().tolist() == whole


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_nothing_after_an_end_counts(lambda_: float) -> None:
    rewards, values, continues = numbers(4, 3, seed=0), numbers(4, 3, seed=1), torch.ones(4, 3)
    continues[1] = 0.0
    returns = lambda_returns(rewards, values, continues, lambda_)
    torch.testing.assert_close(returns[1], rewards[1])
    elsewhere = torch.cat([rewards[:2], rewards[2:] + 100.0])
    values[1:] += 100.0
    assert torch.equal(lambda_returns(elsewhere, values, continues, lambda_)[:2], returns[:2])


def test_dreams_go_on_with_the_chance_among_those_that_got_there() -> None:
    weight = torch.tensor([[1.0, 1.0], [0.5, 0.9], [0.125, 0.0], [0.0, 0.0]])
    expected = torch.tensor([[0.5, 0.9], [0.25, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(continuation_probs(weight), expected)


@KINDS
def test_dreams_hold_what_was_seen_done_and_paid_in_that_order(kind: str) -> None:
    made = learner(kind, temperature=0.0)
    dreams = made.dreams(starts(made.task.dream, 6), 3, 0.5, draw(0))
    state = starts(made.task.dream, 6)
    for step in range(3):
        torch.testing.assert_close(dreams.features[step], made.task.dream.features(state))
        torch.testing.assert_close(dreams.weight[step], state.weight)
        action = apply_action_map(MAPS["continuous"], dreams.outputs[step])
        state, reward = made.task.dream.step(state, action)
        torch.testing.assert_close(dreams.rewards[step], reward / 2.0)
    torch.testing.assert_close(dreams.features[3], made.task.dream.features(state))
    torch.testing.assert_close(dreams.weight[3], state.weight)
    assert (dreams.weight[3] < dreams.weight[2]).all()


def test_outputs_in_a_dream_are_those_of_c_and_a_noise_of_the_width_asked_for() -> None:
    made = learner()
    with torch.no_grad():
        dreams = made.dreams(starts(made.task.dream, 500), 4, 0.3, draw(0))
        noise = dreams.outputs - torch.stack([made.outputs(seen) for seen in dreams.features[:-1]])
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert torch.corrcoef(noise.reshape(4, -1)).fill_diagonal_(0).abs().max() < 0.15


@KINDS
def test_a_c_that_sees_z_alone_is_not_told_h(kind: str) -> None:
    dream = DreamModel(*world(kind))
    sizes = ControllerConfig(dream.vision.num_features, 2)
    made = learner(kind, sees=sizes, start=numbers(1, sizes.num_parameters, seed=0))
    features = numbers(7, dream.num_features, seed=1)
    elsewhere = features.clone()
    elsewhere[:, dream.vision.num_features :] += 1.0
    outputs = made.outputs(features)
    assert torch.equal(made.outputs(elsewhere), outputs)
    seen = features[None, :, : dream.vision.num_features]
    torch.testing.assert_close(outputs, control(sizes, made.actor, seen)[0])


def test_a_new_c_hardly_acts_but_its_hidden_units_differ() -> None:
    torch.manual_seed(0)
    sizes = ControllerConfig(200, 3, 50)
    parameters = init_parameters(sizes)
    assert parameters.shape == (1, sizes.num_parameters)
    features = numbers(1, 100, 200, seed=0)
    outputs = control(sizes, parameters, features)
    assert 0 < outputs.abs().max() < 0.1
    first_layer = parameters[:, : 200 * 50 + 50]
    assert (first_layer[:, 200 * 50 :] == 0).all() and (parameters[:, -3:] == 0).all()
    hidden = control(ControllerConfig(200, 50), first_layer, features)
    assert hidden.std() == pytest.approx(1.0, rel=0.1)


def test_a_search_begins_at_the_parameters_given_and_leaves_them_alone() -> None:
    sizes = ControllerConfig(8, 2)
    start = numbers(1, sizes.num_parameters, seed=0)
    made = learner(sees=sizes, start=start)
    kept = start.clone()
    assert torch.equal(made.actor, start) and torch.equal(made.ema_params, start)
    with torch.no_grad():
        made.actor.add_(1.0)
    assert torch.equal(start, kept) and torch.equal(made.ema_params, kept)


def test_the_c_that_is_kept_follows_the_one_being_searched() -> None:
    made = learner(ema_rate=0.25)
    first = made.ema_params.clone()
    with torch.no_grad():
        made.actor.add_(1.0)
    made.update_ema()
    torch.testing.assert_close(made.ema_params, first + 0.25)
    made.update_ema()
    torch.testing.assert_close(made.ema_params, first + 0.25 + 0.75 * 0.25)


@pytest.mark.parametrize(("longest", "clipped"), [(10.0, 1.0), (2.0, 0.4)])
def test_the_slope_is_clipped_in_length_and_keeps_its_direction(
    longest: float, clipped: float
) -> None:
    made = learner(max_gradient_norm=longest)
    policy_loss = torch.zeros_like(made.actor)
    policy_loss[0, :2] = torch.tensor([3.0, -4.0])
    zero = torch.zeros(())
    loss, metrics = made.total_loss((policy_loss * made.actor).sum(), zero, zero)
    assert metrics["gradient_norm"].item() == pytest.approx(5.0)
    (gradient,) = torch.autograd.grad(loss, made.actor)
    torch.testing.assert_close(-gradient, clipped * policy_loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"discount": 1.5}, r"discount must be between 0 and 1, got 1\.5"),
        ({"lambda_": -0.1}, r"lambda_ must be between 0 and 1, got -0\.1"),
        ({"ema_rate": 2.0}, r"ema_rate must be between 0 and 1, got 2\.0"),
        ({"noise": 0.0}, r"noise must be above 0, got 0\.0"),
        ({"noise": float("nan")}, "noise must be above 0, got nan"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ActorCriticConfig(**settings)
