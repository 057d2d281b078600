"""Train C by gradients of returns; the gradients flow through rewards, latents and M's state."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.actions import ActionMap
from worldmodels.controller.actor_critic import ActorCritic, ActorCriticConfig, DreamTask
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PathwiseConfig(ActorCriticConfig):
    """Settings for training C and its value network by the gradient of the return.

    Attributes:
        target_ema_rate: weight of the newest parameters in the moving average of the value
            network's parameters. The network with the averaged parameters computes the values in
            returns.
    """

    target_ema_rate: float = 0.02


class PathwiseActorCritic(ActorCritic):
    """Maximizes dreamed returns by the gradients of the returns, which flow through latents.

    Source: arXiv 1912.01603, eq. 7 and 8.

    Differs: a dream that leaves `Support` ends at once, and this end has no derivative with respect
    to latents. The gradient therefore ignores that an action can make a dream leave `Support`.

    Raises: UserError for codes or discrete actions, through which no gradient flows.
    """

    config: PathwiseConfig

    def __init__(self, config: PathwiseConfig, task: DreamTask) -> None:
        if not is_differentiable(task.dream, task.action_map):
            raise UserError("dreams with codes or with discrete actions are not differentiable")
        super().__init__(config, task)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)

    def loss(
        self, starts: DreamState, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step: the value network's squared error minus the return of the dreams."""
        config = self.config
        self.update_ema()
        pairs = zip(self.target.parameters(), self.critic.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast.detach(), config.target_ema_rate)
        dreams = self.dreams(starts, config.horizon, config.noise, generator)
        values = self.target(dreams.features[1:])[..., 0]
        returns = dreams.lambda_returns(values, self.discount, config.lambda_)
        weight = dreams.weight[:-1].detach()
        ages = torch.arange(config.horizon, device=weight.device)[:, None]
        error = self.values(dreams.features[:-1].detach()) - returns.detach()
        return self.total_loss(
            (weight * self.discount**ages * returns).mean(),
            (weight * error.square()).mean(),
            self.return_of(dreams),
        )


def is_differentiable(dream: DreamModel, action_map: ActionMap) -> bool:
    """Whether gradients flow from dreamed rewards to C's outputs."""
    return not dream.vision.discrete and not action_map.discrete
