"""C and the critic get the right gradients, and C's gradient increases the dreamed return."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.controller import apply_action_map
from tests.fixtures.reward_world import (
    BEST,
    IDLE,
    MAPS,
    controller,
    reward_of,
    reward_world,
    starts,
)
from tests.fixtures.tiny_models import mdnrnn, vae, world
from worldmodels.controller.actor_critic import DreamTask, continuation_probs, lambda_returns
from worldmodels.controller.pathwise import PathwiseActorCritic, PathwiseConfig, is_differentiable
from worldmodels.controller.rewards import RewardScale
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.dream.rollout import dreamed_returns
from worldmodels.errors import UserError
from worldmodels.memory import LSTMState
from worldmodels.training.fit import step_generator

PEDAL = MAPS["continuous"]


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learner(
    dream: DreamModel, hidden: int = 0, seed: int = 0, **settings: Any
) -> PathwiseActorCritic:
    torch.manual_seed(seed)
    config = PathwiseConfig(**{"horizon": 5, "critic_width": 16, **settings})
    task = DreamTask(controller(dream, PEDAL, hidden), PEDAL, dream, RewardScale(0.975, 2.0))
    return PathwiseActorCritic(config, task)


def last(critic: nn.Sequential) -> nn.Linear:
    """Return the output layer of a critic."""
    layer = critic[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def awake(made: PathwiseActorCritic) -> PathwiseActorCritic:
    """Set weights so that C's outputs depend on its inputs, and values are far from zero."""
    with torch.no_grad():
        made.actor.normal_(std=0.5, generator=draw(3))
        last(made.critic).bias.fill_(2.0)
    return made


def test_the_gradient_is_the_slope_of_the_dreamed_objective() -> None:
    # With fixed noise a sample of one Gaussian is a smooth function; see test_mixture_gradient.py
    # for several, of which the same noise may draw another one.
    vision, memory = vae(), mdnrnn(num_mixtures=1)
    with torch.no_grad():
        memory.outcome.linear.bias[-1] = -1.0  # about every fourth agent step ends a dream
    dream = DreamModel(vision.double(), memory.double())
    made = awake(learner(dream, hidden=3, max_gradient_norm=1e9, noise=0.3).double())
    first = starts(dream, 6)
    past = LSTMState(*(part + 0.1 for part in first.memory))
    first = DreamState(first.latent.double(), past, first.weight.double())
    loss, metrics = made.loss(first, draw(0))
    loss.backward()
    assert made.actor.grad is not None
    gradient = -made.actor.grad

    def objective(moved: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            made.actor.add_(moved)
            features, _, rewards, weight = made.dreams(first, 5, 0.3, draw(0))
            made.actor.sub_(moved)
            values = made.target(features[1:])[..., 0]
            returns = lambda_returns(rewards, values, 0.975 * continuation_probs(weight), 0.95)
        return returns, weight[:-1]

    _, weight = objective(
        torch.tensor(0.0)
    )  # a weight of what is followed, and not followed itself
    assert weight[-1].max() < 0.8
    weights = weight * 0.975 ** torch.arange(5)[:, None]
    for seed in range(3):
        way = torch.randn(made.actor.shape, generator=draw(seed)).double()
        ahead, back = ((weights * objective(step * way)[0]).mean() for step in (1e-5, -1e-5))
        difference = (ahead - back) / 2e-5
        torch.testing.assert_close((gradient * way).sum(), difference, rtol=1e-5, atol=1e-8)
    assert metrics["gradient_norm"].item() == pytest.approx(gradient.norm().item())


def gradients(made: PathwiseActorCritic, seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    loss, metrics = made.loss(starts(made.task.dream, 8), draw(seed))
    loss.backward()
    of_critic = [weight.grad for weight in made.critic.parameters()]
    critic = torch.cat([gradient.flatten() for gradient in of_critic if gradient is not None])
    assert made.actor.grad is not None
    return made.actor.grad.clone(), critic, metrics


def test_c_has_the_clipped_slope_and_the_value_its_own_error() -> None:
    dream = reward_world("vae")
    whole, critic, metrics = gradients(awake(learner(dream, max_gradient_norm=1e9)))
    clipped, same, _ = gradients(awake(learner(dream, max_gradient_norm=0.01)))
    assert metrics["gradient_norm"] > 0.02
    torch.testing.assert_close(clipped, 0.01 * whole / whole.norm(), rtol=1e-3, atol=1e-7)
    assert torch.equal(critic, same) and critic.norm() > 1
    made = awake(learner(dream))
    _, metrics = made.loss(starts(dream, 8), draw(0))
    error = torch.autograd.grad(metrics["value_error"], list(made.critic.parameters()))
    torch.testing.assert_close(torch.cat([part.flatten() for part in error]), critic)
    assert all(weight.grad is None for weight in made.target.parameters())


def test_the_value_learned_is_of_what_is_seen_before_an_agent_step() -> None:
    dream = DreamModel(*world("vae"), temperature=0.0)
    made = awake(learner(dream, noise=1e-6, horizon=1, discount=0.5))
    _, metrics = made.loss(starts(dream, 8), draw(0))
    with torch.no_grad():
        seen, _, rewards, weight = made.dreams(starts(dream, 8), 1, 1e-6, draw(1))
        aim = rewards[0] + 0.5 * weight[1] * made.target(seen[1])[:, 0]
        error = (made.values(seen[0]) - aim).square().mean()
    torch.testing.assert_close(metrics["value_error"].detach(), error, rtol=1e-3, atol=1e-5)


def test_the_return_told_is_in_the_env_s_units_and_ends_with_the_dream() -> None:
    dream = DreamModel(*world("vae"), temperature=0.0)
    made = awake(learner(dream, noise=1e-6))
    _, metrics = made.loss(starts(dream, 8), draw(0))

    def act(features: Tensor) -> Tensor:
        return apply_action_map(PEDAL, made.outputs(features))

    returns = dreamed_returns(dream, starts(dream, 8), act, 5, draw(0))[-1]
    assert metrics["dreamed_return"].item() == pytest.approx(returns.mean().item(), rel=1e-3)


def test_what_is_kept_and_what_returns_end_in_follow_slowly() -> None:
    dream = reward_world("vae")
    made = awake(learner(dream, ema_rate=0.25, target_ema_rate=0.5))
    kept, aimed = made.ema_params.clone(), last(made.target).bias.clone()
    made.loss(starts(dream, 2), draw(0))
    torch.testing.assert_close(made.ema_params, kept + 0.25 * (made.actor.detach() - kept))
    torch.testing.assert_close(
        last(made.target).bias, (aimed + last(made.critic).bias.detach()) / 2
    )


@pytest.mark.parametrize("hidden", [0, 8])
def test_it_learns_to_do_what_the_dream_pays(hidden: int) -> None:
    dream = reward_world("vae")
    made = learner(dream, hidden, ema_rate=0.1)
    before = reward_of(dream, made.task.controller, PEDAL, made.ema_params)
    drawn = torch.randn(5, 1, made.task.controller.num_parameters, generator=draw(0))
    best_of_random = max(reward_of(dream, made.task.controller, PEDAL, each) for each in drawn)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for step in range(50):
        loss, _ = made.loss(starts(dream, 48, seed=step), step_generator(0, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned = reward_of(dream, made.task.controller, PEDAL, made.ema_params)
    assert before == pytest.approx(IDLE, abs=0.03)
    # No action that is always the same is paid more than half: C looks.
    assert best_of_random + 0.1 < learned < BEST
    assert learned > IDLE + 0.3


@pytest.mark.parametrize(("kind", "actions"), [("fsq", "continuous"), ("vae", "discrete")])
def test_codes_and_discrete_actions_have_no_slope(kind: str, actions: str) -> None:
    dream = DreamModel(*world(kind))
    action_map = MAPS[actions]
    assert not is_differentiable(dream, action_map)
    assert is_differentiable(DreamModel(*world("vae")), PEDAL)
    task = DreamTask(controller(dream, action_map), action_map, dream, RewardScale(0.975, 1.0))
    with pytest.raises(UserError, match="with codes or with discrete actions are not diff"):
        PathwiseActorCritic(PathwiseConfig(), task)
