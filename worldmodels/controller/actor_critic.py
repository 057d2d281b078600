"""The code that is common to `pathwise.py` and `ppo.py`, the two gradient searches for C.

C acts in short dreams that begin at real states. A value network estimates the return that would
follow the last state of a dream. The return of a dream is therefore:

    return = sum over agent steps t of discount^t reward_t + discount^T value(state_T)

`pathwise.py` differentiates the return itself, through rewards, latents and M's state. `ppo.py`
compares the return that follows each noisy output of C with the expected return. PPO needs no
gradient of the return, and therefore also works with codes and discrete actions, through which no
gradient flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.controller import ControllerConfig, apply_action_map, control
from envs.actions import ActionMap
from worldmodels.controller.rewards import RewardScale
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.errors import check_above_zero, check_at_least, check_fraction


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """Settings for training C and its value network.

    Attributes:
        horizon: number of agent steps of a dream.
        discount: weight of the next agent step's reward relative to the weight of the present
            reward. If `discount` is None, the discount is computed from the data (see
            `RewardScale`).
        lambda_: mixing weight of lambda-returns. At 0, a return consists of one reward and the
            value of the next state. At 1, a return consists of all rewards until the dream's end
            and the value of the last state.
        noise: standard deviation of the noise that is added to C's outputs in the dream.
        max_gradient_norm: largest norm of C's gradient; a larger gradient is scaled down to this
            norm.
        critic_width: number of units in each of the two hidden layers of the value network.
        ema_rate: weight of the newest parameters in the moving average of C's parameters; this
            average is the result of the search.
    """

    horizon: int = 15
    discount: float | None = None
    lambda_: float = 0.95
    noise: float = 0.1
    max_gradient_norm: float = 1.0
    critic_width: int = 128
    ema_rate: float = 0.02

    def __post_init__(self) -> None:
        check_at_least(1, self, "horizon")
        check_fraction(self, "discount", "lambda_", "ema_rate")
        check_above_zero(self, "noise")


@dataclass(frozen=True)
class DreamTask:
    """The sizes and the action map of C, and the dream in which C is trained.

    Attributes:
        reward_scale: the discount, and the unit of rewards.
        start: initial parameters of C. If `start` is None, the initial parameters are random, and
            those of the last layer are near zero.
    """

    controller: ControllerConfig
    action_map: ActionMap
    dream: DreamModel
    reward_scale: RewardScale
    start: Float[Tensor, "1 parameter"] | None = None


class Dreams(NamedTuple):
    """The record of B dreams, each of T agent steps.

    Attributes:
        features: [z, h] before every agent step and after the last agent step.
        outputs: C's outputs, including the noise that was added to them.
        rewards: rewards in units of `RewardScale.unit`.
        weight: for every state in `features`, the probability that the dream has not ended yet.
    """

    features: Float[Tensor, "state batch feature"]
    outputs: Float[Tensor, "agent_step batch output"]
    rewards: Float[Tensor, "agent_step batch"]
    weight: Float[Tensor, "state batch"]

    def lambda_returns(
        self, values: Float[Tensor, "agent_step batch"], discount: float, lambda_: float
    ) -> Float[Tensor, "agent_step batch"]:
        """Return the lambda-returns of all agent steps, given the values of the next states."""
        continues = discount * continuation_probs(self.weight)
        return lambda_returns(self.rewards, values, continues, lambda_)


class ActorCritic(nn.Module):
    """A controller and a value network, which are trained on the same dreams.

    Attributes:
        ema_params: the moving average of C's parameters, (1, D); this average is the result of a
            search.

    Source: arXiv 1912.01603, section 3 (Dreamer). Differs: C is the small controller of arXiv
    1803.10122. The standard deviation of the noise on C's outputs is a setting, not an output of C.
    """

    ema_params: Tensor

    def __init__(self, config: ActorCriticConfig, task: DreamTask) -> None:
        super().__init__()
        self.config = config
        self.task = task
        given, from_data = config.discount, task.reward_scale.discount
        self.discount = from_data if given is None else given
        first = init_parameters(task.controller) if task.start is None else task.start.clone()
        self.actor = nn.Parameter(first)
        self.register_buffer("ema_params", first.clone())
        self.critic = nn.Sequential(
            nn.Linear(task.dream.num_features, config.critic_width),
            nn.SiLU(),
            nn.Linear(config.critic_width, config.critic_width),
            nn.SiLU(),
            nn.Linear(config.critic_width, 1),
        )

    def loss(
        self, starts: DreamState, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss that an optimizer step minimizes, and metrics; each subclass computes both."""
        raise NotImplementedError

    def outputs(self, features: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch output"]:
        """C's outputs for the features [z, h], without noise."""
        seen = features[None, :, : self.task.controller.num_features]
        return control(self.task.controller, self.actor, seen)[0]

    def values(self, features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
        """The estimated return from each state on, in units of `RewardScale.unit`."""
        result: Tensor = self.critic(features)[..., 0]
        return result

    def update_ema(self) -> None:
        """Move the moving average of C's parameters towards the current parameters.

        Subclasses call this method before each update of C, so that a resumed search gives the same
        result as an uninterrupted search.
        """
        self.ema_params.lerp_(self.actor.detach(), self.config.ema_rate)

    def dreams(
        self, starts: DreamState, horizon: int, noise: float, generator: torch.Generator
    ) -> Dreams:
        """Roll out dreams from the states `starts`; C acts with noise on its outputs."""
        dream = self.task.dream
        state, features, weight = starts, [dream.features(starts)], [starts.weight]
        outputs, rewards = [], []
        for _ in range(horizon):
            outputs.append(self.explore(self.outputs(features[-1]), noise, generator))
            action = apply_action_map(self.task.action_map, outputs[-1])
            state, reward = dream.step(state, action, generator)
            features.append(dream.features(state))
            rewards.append(reward / self.task.reward_scale.unit)
            weight.append(state.weight)
        return Dreams(*(torch.stack(part) for part in (features, outputs, rewards, weight)))

    def explore(
        self, outputs: Float[Tensor, "batch output"], noise: float, generator: torch.Generator
    ) -> Float[Tensor, "batch output"]:
        """Add Gaussian noise to C's outputs; `noise` is the standard deviation."""
        drawn = torch.randn(outputs.shape, generator=generator, device=outputs.device)
        return outputs + noise * drawn

    def return_of(self, dreams: Dreams) -> Tensor:
        """The mean undiscounted return of the dreams, in the units of the env's rewards."""
        return (dreams.weight[:-1] * dreams.rewards).sum(0).mean() * self.task.reward_scale.unit

    def agent_steps_per_update(self, num_dreams: int) -> float:
        """Number of dreamed agent steps per optimizer step, if a batch has `num_dreams` dreams."""
        return self.config.horizon * num_dreams

    def total_loss(
        self, objective: Tensor, value_error: Tensor, dreamed_return: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the value network's error and of C's loss, and return metrics.

        C's loss is a linear function of C's parameters, and its gradient is minus the clipped
        gradient of `objective`. A gradient step on C's loss therefore raises `objective`. C's
        gradient is clipped separately, because the gradient of the value network is many times
        larger.
        """
        (gradient,) = torch.autograd.grad(objective, self.actor)
        norm = gradient.norm()
        clipped = gradient * (self.config.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
        return value_error - (clipped * self.actor).sum(), {
            "dreamed_return": dreamed_return,
            "value_error": value_error,
            "gradient_norm": norm,
        }


def init_parameters(controller: ControllerConfig) -> Float[Tensor, "1 parameter"]:
    """Random parameters of a controller whose biases are zero and whose outputs are near zero."""
    parts = []
    for layer, (inputs, outputs) in enumerate(controller.layers):
        scale = inputs**-0.5 * (0.01 if layer == len(controller.layers) - 1 else 1.0)
        parts += [scale * torch.randn(inputs * outputs), torch.zeros(outputs)]
    return torch.cat(parts)[None]


def lambda_returns(
    rewards: Float[Tensor, "agent_step batch"],
    values: Float[Tensor, "agent_step batch"],
    continues: Float[Tensor, "agent_step batch"],
    lambda_: float,
) -> Float[Tensor, "agent_step batch"]:
    """The lambda-return of each agent step, a weighted mean of its n-step returns for all n.

    Args:
        values: the value of the state after each agent step.
        continues: for each agent step, the discount times the probability that the dream goes on
            after that step.

    Source: arXiv 1912.01603, eq. 6.
    """
    returns = [rewards[-1] + continues[-1] * values[-1]]
    for step in reversed(range(len(rewards) - 1)):
        later = (1.0 - lambda_) * values[step] + lambda_ * returns[-1]
        returns.append(rewards[step] + continues[step] * later)
    return torch.stack(returns[::-1])


def continuation_probs(weight: Float[Tensor, "state batch"]) -> Float[Tensor, "agent_step batch"]:
    """The probability that a dream goes on after an agent step, if the dream has reached it."""
    return weight[1:] / weight[:-1].clamp(min=1e-6)
