"""C by the slope of dreamed returns, through rewards, latents and M's state."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.controller import ControllerConfig
from envs.actions import ActionMap
from worldmodels.controller.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    continuation_probs,
    lambda_returns,
)
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PathwiseConfig(ActorCriticConfig):
    """Settings of the pathwise gradient; see `ActorCriticConfig` for the rest.

    Attributes:
        target_ema_rate: rate of the moving average that is the target value.
    """

    target_ema_rate: float = 0.02


class PathwiseActorCritic(ActorCritic):
    """Maximizes dreamed returns by their reparameterized gradient, over continuous latents.

    Source: arXiv 1912.01603, eq. 7 and 8.

    Differs: a dream that leaves `Support` ends at once, which has no derivative in its latents.
    The gradient therefore leaves out that an action makes such an end likelier.

    Raises: UserError over codes or discrete actions, which let no gradient through.
    """

    def __init__(
        self,
        config: PathwiseConfig,
        controller: ControllerConfig,
        action_map: ActionMap,
        dream: DreamModel,
        reward_scale: float,
        start: Float[Tensor, "1 parameter"] | None = None,
    ) -> None:
        if not is_differentiable(dream, action_map):
            raise UserError("dreams over codes, or of discrete actions, have no slope to follow")
        super().__init__(config, controller, action_map, dream, reward_scale, start)
        self.config = config
        self.target = copy.deepcopy(self.critic).requires_grad_(False)

    def loss(
        self, starts: DreamState, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What a step descends: minus the dreams' return, and the value's squared error."""
        config = self.config
        self.update_ema()
        pairs = zip(self.target.parameters(), self.critic.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast.detach(), config.target_ema_rate)
        features, _, rewards, weight = self.dreams(starts, config.horizon, config.noise, generator)
        values = self.target(features[1:])[..., 0]
        returns = lambda_returns(
            rewards, values, config.discount * continuation_probs(weight), config.lambda_
        )
        weight = weight[:-1].detach()
        ages = torch.arange(len(rewards), device=weight.device)[:, None]
        policy_loss, norm = self.policy_loss((weight * config.discount**ages * returns).mean())
        error = self.values(features[:-1].detach()) - returns.detach()
        value_error = (weight * error.square()).mean()
        return value_error + policy_loss, {
            "dreamed_return": (weight * rewards).sum(0).mean() * self.reward_scale,
            "value_error": value_error,
            "gradient_norm": norm,
        }


def is_differentiable(dream: DreamModel, action_map: ActionMap) -> bool:
    """Whether gradients flow from dreamed rewards to C's outputs."""
    return not dream.vision.discrete and not action_map.discrete
