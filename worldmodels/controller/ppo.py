"""C by the score function of its own noise: proximal policy optimization within the dream."""

import math
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
class PPOConfig(ActorCriticConfig):
    """Settings of PPO within the dream; see `ActorCriticConfig` for the rest.

    Attributes:
        final_action_std: standard deviation of the noise in the last step; `noise` is the first.
        num_updates: optimizer steps for every batch of dreams.
        minibatch_fraction: part of the batch's agent steps that each of these steps uses.
        clip_range: epsilon in the source. The ratio of an output's likelihoods, now and in the
            dream, is clipped to between 1 - epsilon and 1 + epsilon.
    """

    noise: float = 0.5
    final_action_std: float = 0.2
    max_gradient_norm: float = 0.5
    ema_rate: float = 0.0065
    num_updates: int = 16
    minibatch_fraction: float = 0.25
    clip_range: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.final_action_std <= self.noise:
            raise UserError(
                f"expected final_action_std above 0 and at most {self.noise}, "
                f"got {self.final_action_std}"
            )
        if self.num_updates < 1:
            raise UserError(f"expected 1 update or more, got {self.num_updates}")
        for name in ("minibatch_fraction", "clip_range"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"expected {name} within 0..1, got {getattr(self, name)}")


class PPOActorCritic(ActorCritic):
    """Makes outputs with a positive advantage likelier; needs no gradient of the dream.

    The outputs' distribution is a Gaussian around C's own. The dreams in use are part of the
    state, so that a search resumes in the middle of them.

    Args:
        num_dreams: dreams per batch.
        num_steps: optimizer steps of the whole search, over which the noise falls.

    Source: arXiv 1707.06347 (clipped objective), arXiv 1506.02438 (advantages).
    """

    step: Tensor
    features: Tensor
    sampled_outputs: Tensor
    advantages: Tensor
    returns: Tensor
    weight: Tensor
    log_likelihood: Tensor
    mean_return: Tensor

    # Long list of parameters: those of every learner, and the two sizes that PPO's buffers need.
    def __init__(
        self,
        config: PPOConfig,
        controller: ControllerConfig,
        action_map: ActionMap,
        dream: DreamModel,
        reward_scale: float,
        start: Float[Tensor, "1 parameter"] | None = None,
        *,
        num_dreams: int,
        num_steps: int,
    ) -> None:
        super().__init__(config, controller, action_map, dream, reward_scale, start)
        self.config = config
        self.num_steps = num_steps
        rows = num_dreams * config.horizon
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean_return", torch.zeros(()))
        self.register_buffer("features", torch.zeros(rows, dream.num_features))
        self.register_buffer("sampled_outputs", torch.zeros(rows, controller.num_outputs))
        for name in ("advantages", "returns", "weight", "log_likelihood"):
            self.register_buffer(name, torch.zeros(rows))

    def loss(
        self, starts: DreamState, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What a step descends: the clipped objective's negative, and the value's squared error.

        `starts` are dreamed from in every `num_updates`-th step; the steps between learn from
        those dreams again.
        """
        config = self.config
        self.update_ema()
        use = int(self.step) % config.num_updates
        noise = self.noise_at(int(self.step) - use)
        if use == 0:
            self._dream_anew(starts, noise, generator)
        self.step += 1
        count = max(1, round(config.minibatch_fraction * len(self.features)))
        rows = torch.randint(
            len(self.features), (count,), generator=generator, device=self.features.device
        )
        features, weight = self.features[rows], self.weight[rows]
        now = self._log_likelihood(features, self.sampled_outputs[rows], noise)
        ratio = (now - self.log_likelihood[rows]).exp()
        within = ratio.clamp(1.0 - config.clip_range, 1.0 + config.clip_range)
        gained = torch.minimum(ratio * self.advantages[rows], within * self.advantages[rows])
        policy_loss, norm = self.policy_loss((weight * gained).mean())
        value_error = (weight * (self.values(features) - self.returns[rows]).square()).mean()
        return value_error + policy_loss, {
            "dreamed_return": self.mean_return,
            "value_error": value_error,
            "gradient_norm": norm,
        }

    def agent_steps_per_update(self, num_dreams: int) -> float:
        """See `ActorCritic`; each batch of dreams serves several steps."""
        return super().agent_steps_per_update(num_dreams) / self.config.num_updates

    def noise_at(self, step: int) -> float:
        """The noise of that step, falling geometrically over the search."""
        done = min(1.0, step / max(1, self.num_steps - 1))
        result: float = (
            self.config.noise * (self.config.final_action_std / self.config.noise) ** done
        )
        return result

    @torch.no_grad()
    def _dream_anew(self, starts: DreamState, noise: float, generator: torch.Generator) -> None:
        config = self.config
        features, sampled_outputs, rewards, weight = self.dreams(
            starts, config.horizon, noise, generator
        )
        values = self.values(features)
        returns = lambda_returns(
            rewards, values[1:], config.discount * continuation_probs(weight), config.lambda_
        )
        advantages = returns - values[:-1]
        advantages = standardized(advantages, weight[:-1])
        self.features.copy_(features[:-1].flatten(0, 1))
        self.sampled_outputs.copy_(sampled_outputs.flatten(0, 1))
        self.advantages.copy_(advantages.flatten())
        self.returns.copy_(returns.flatten())
        self.weight.copy_(weight[:-1].flatten())
        self.log_likelihood.copy_(self._log_likelihood(self.features, self.sampled_outputs, noise))
        self.mean_return.copy_((weight[:-1] * rewards).sum(0).mean() * self.reward_scale)

    def _log_likelihood(
        self,
        features: Float[Tensor, "row feature"],
        sampled_outputs: Float[Tensor, "row output"],
        noise: float,
    ) -> Float[Tensor, "row"]:
        """Of outputs, under a Gaussian around C's own."""
        error = (sampled_outputs - self.outputs(features)) / noise
        constant = sampled_outputs.shape[-1] * math.log(noise * math.sqrt(2.0 * math.pi))
        return -0.5 * error.square().sum(-1) - constant


def standardized(
    numbers: Float[Tensor, "decision batch"], weight: Float[Tensor, "decision batch"]
) -> Float[Tensor, "decision batch"]:
    """The numbers with a weighted mean of 0 and a weighted spread of 1.

    AgentSteps after a dream's end have no weight in the objective, so they must not move the
    advantages of the others either.
    """
    total = weight.sum()
    centered = numbers - (weight * numbers).sum() / total
    spread = ((weight * centered.square()).sum() / total).sqrt()
    return centered / (spread + 1e-6)
