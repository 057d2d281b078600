"""C by gradients in the dream: what both ways of getting its gradient share.

C drives short dreams from real states; what is beyond their end is a learned value:

    return = sum over agent steps of discount^t reward + discount^T value(last state)

`pathwise.py` follows the return's own slope through rewards, latents and M's state;
`ppo.py` asks only which of the outputs tried were better than expected, and so needs no
slope: codes and discrete actions have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.controller import ControllerConfig, apply_action_map, control
from envs.actions import ActionMap
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """How C and the value are learned.

    Attributes:
        horizon: of a dream.
        discount: of a reward one agent step later.
        lambda_: of the lambda-returns; 1 uses rewards and the last value only, 0 the next value.
        noise: standard deviation of the noise that is added to C's outputs in the dream.
        max_gradient_norm: C's gradient is scaled down to it.
        critic_width: units of each hidden layer of the value network.
        ema_rate: rate of the moving average of C's parameters, which is the result.
    """

    horizon: int = 15
    discount: float = 0.975
    lambda_: float = 0.95
    noise: float = 0.1
    max_gradient_norm: float = 1.0
    critic_width: int = 128
    ema_rate: float = 0.02

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise UserError(f"expected 1 agent step or more, got {self.horizon}")
        for name in ("discount", "lambda_", "ema_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"expected {name} within 0..1, got {getattr(self, name)}")
        if not self.noise > 0:
            raise UserError(f"expected noise above 0, got {self.noise}")


class Dreams(NamedTuple):
    """What C met in B dreams of T agent steps.

    Attributes:
        features: [z, h] before every agent step and after the last one.
        outputs: C's, noise included.
        rewards: in units of the learner's `reward_scale`.
        weight: probability that the dream has not ended, before every agent step and after the
            last one.
    """

    features: Float[Tensor, "moment batch feature"]
    outputs: Float[Tensor, "decision batch output"]
    rewards: Float[Tensor, "decision batch"]
    weight: Float[Tensor, "moment batch"]


class ActorCritic(nn.Module):
    """A controller and a value network, learned from the same dreams.

    Args:
        start: C's parameters (1, D) to begin at; None draws them, the last layer near zero.
        reward_scale: what rewards are divided by, so that values are of the order of 1.

    Attributes:
        average: the running average of C's parameters, (1, D): what is kept.

    Source: arXiv 1912.01603, 3 (Dreamer). Differs: C is the small one of arXiv 1803.10122, and its
    outputs are certain but for a noise of given width.
    """

    ema_params: Tensor

    def __init__(
        self,
        config: ActorCriticConfig,
        controller: ControllerConfig,
        action_map: ActionMap,
        dream: DreamModel,
        reward_scale: float,
        start: Float[Tensor, "1 parameter"] | None = None,
    ) -> None:
        super().__init__()
        self.controller = controller
        self.action_map = action_map
        self.dream = dream
        self.reward_scale = reward_scale
        self.actor = nn.Parameter(init_parameters(controller) if start is None else start.clone())
        self.register_buffer("ema_params", self.actor.detach().clone())
        self.critic = nn.Sequential(
            nn.Linear(dream.num_features, config.critic_width),
            nn.SiLU(),
            nn.Linear(config.critic_width, config.critic_width),
            nn.SiLU(),
            nn.Linear(config.critic_width, 1),
        )
        self._max_gradient_norm = config.max_gradient_norm
        self._ema_rate = config.ema_rate
        self.horizon = config.horizon

    def loss(
        self, starts: DreamState, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What a step minimizes, and its metrics; each way of getting the gradient has its own."""
        raise NotImplementedError

    def outputs(self, features: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch output"]:
        """C's outputs for features [z, h], before any noise."""
        seen = features[None, :, : self.controller.num_features]
        return control(self.controller, self.actor, seen)[0]

    def values(self, features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
        """The return expected from there on, in units of `reward_scale`."""
        result: Tensor = self.critic(features)[..., 0]
        return result

    def update_ema(self) -> None:
        """Let the C that is kept take its step; before an update, so that a resume is exact."""
        self.ema_params.lerp_(self.actor.detach(), self._ema_rate)

    def dreams(
        self, starts: DreamState, horizon: int, noise: float, generator: torch.Generator
    ) -> Dreams:
        """Let C drive dreams from these states, with noise on its outputs."""
        state, features, weight = starts, [self.dream.features(starts)], [starts.weight]
        outputs, rewards = [], []
        for _ in range(horizon):
            chosen = self.outputs(features[-1])
            drawn = torch.randn(chosen.shape, generator=generator, device=chosen.device)
            outputs.append(chosen + noise * drawn)
            action = apply_action_map(self.action_map, outputs[-1])
            state, reward = self.dream.step(state, action, generator)
            features.append(self.dream.features(state))
            rewards.append(reward / self.reward_scale)
            weight.append(state.weight)
        return Dreams(*(torch.stack(part) for part in (features, outputs, rewards, weight)))

    def agent_steps_per_update(self, num_dreams: int) -> float:
        """Dreamed agent steps that a step costs, where a batch is so many dreams."""
        return self.horizon * num_dreams

    def policy_loss(self, objective: Tensor) -> tuple[Tensor, Tensor]:
        """What to add to a loss so that C climbs `objective`, and the gradient's norm.

        C's gradient is clipped on its own, for the value's is many times as large: the first part
        is linear in C's parameters, and its gradient is the clipped one.
        """
        (gradient,) = torch.autograd.grad(objective, self.actor)
        norm = gradient.norm()
        gradient = gradient * (self._max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
        return -(gradient * self.actor).sum(), norm


def init_parameters(controller: ControllerConfig) -> Float[Tensor, "1 parameter"]:
    """Random weights for a controller, biases and outputs near zero."""
    parts = []
    for layer, (inputs, outputs) in enumerate(controller.layers):
        scale = inputs**-0.5 * (0.01 if layer == len(controller.layers) - 1 else 1.0)
        parts += [scale * torch.randn(inputs * outputs), torch.zeros(outputs)]
    return torch.cat(parts)[None]


def lambda_returns(
    rewards: Float[Tensor, "decision batch"],
    values: Float[Tensor, "decision batch"],
    continues: Float[Tensor, "decision batch"],
    lambda_: float,
) -> Float[Tensor, "decision batch"]:
    """Discounted returns of every agent step, a mixture over where values take over.

    Args:
        values: of the states after each agent step.
        continues: discount times the chance that the dream goes on.

    Source: arXiv 1912.01603, eq. 6.
    """
    returns = [rewards[-1] + continues[-1] * values[-1]]
    for step in reversed(range(len(rewards) - 1)):
        later = (1.0 - lambda_) * values[step] + lambda_ * returns[-1]
        returns.append(rewards[step] + continues[step] * later)
    return torch.stack(returns[::-1])


def continuation_probs(weight: Float[Tensor, "moment batch"]) -> Float[Tensor, "decision batch"]:
    """The chance that a dream goes on after each agent step, where it got as far."""
    return weight[1:] / weight[:-1].clamp(min=1e-6)
