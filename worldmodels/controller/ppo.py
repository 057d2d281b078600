"""Train C in the dream by proximal policy optimization (PPO).

PPO needs a stochastic policy. Noise on C's outputs makes C stochastic.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from worldmodels.controller.actor_critic import ActorCritic, ActorCriticConfig, DreamTask
from worldmodels.dream.model import DreamState
from worldmodels.errors import UserError, check_above_zero, check_at_least, check_fraction
from worldmodels.training.fit import FitConfig


@dataclass(frozen=True, kw_only=True)
class PPOConfig(ActorCriticConfig):
    """Settings for training C and its value network by PPO.

    Attributes:
        noise: standard deviation of the noise on C's outputs in the first dreams.
        final_action_std: standard deviation of the noise on C's outputs in the last dreams.
        num_updates: number of optimizer steps per batch of dreams.
        minibatch_fraction: fraction of the batch's agent steps that each optimizer step draws.
        entropy_weight: weight of the mean entropy of C's distribution over discrete actions.
        clip_range: epsilon of arXiv 1707.06347. The likelihood of an output under the present C is
            divided by its likelihood under the C that made the dream. This ratio is clipped to the
            range from 1 - epsilon to 1 + epsilon.
    """

    noise: float = 0.5
    final_action_std: float = 0.2
    max_gradient_norm: float = 0.5
    ema_rate: float = 0.0065
    num_updates: int = 16
    minibatch_fraction: float = 0.25
    entropy_weight: float = 0.01
    clip_range: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.final_action_std <= self.noise:
            raise UserError(
                f"expected final_action_std above 0 and at most {self.noise}, "
                f"got {self.final_action_std}"
            )
        check_at_least(1, self, "num_updates")
        check_above_zero(self, "minibatch_fraction", "clip_range")
        check_fraction(self, "minibatch_fraction", "clip_range")


class PPOActorCritic(ActorCritic):
    """Raises the likelihood of outputs that are followed by higher returns than expected.

    PPO needs no gradient of the dream. Continuous outputs are sampled from a Gaussian around C's
    own outputs. A discrete action is sampled with the softmax of C's outputs as probabilities, and
    the one-hot vector of this action takes the place of the outputs.

    The current batch of dreams is stored in buffers of the module, so that a search can be stopped
    and resumed before all steps that use the batch are done.

    Args:
        fit: settings of the fit. `fit.batch_size` is the number of dreams per batch, and the noise
            falls over the `fit.num_steps` optimizer steps.

    Source: arXiv 1707.06347 (clipped objective), arXiv 1506.02438 (advantages).
    """

    config: PPOConfig
    step: Tensor
    features: Tensor
    sampled_outputs: Tensor
    advantages: Tensor
    returns: Tensor
    weight: Tensor
    log_likelihood: Tensor
    mean_return: Tensor

    def __init__(self, config: PPOConfig, task: DreamTask, fit: FitConfig) -> None:
        super().__init__(config, task)
        self.num_steps = fit.num_steps
        rows = fit.batch_size * config.horizon
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean_return", torch.zeros(()))
        self.register_buffer("features", torch.zeros(rows, task.dream.num_features))
        self.register_buffer("sampled_outputs", torch.zeros(rows, task.controller.num_outputs))
        for name in ("advantages", "returns", "weight", "log_likelihood"):
            self.register_buffer(name, torch.zeros(rows))

    def loss(
        self, starts: DreamState, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step: the value network's squared error minus the clipped objective.

        Every `num_updates`-th step makes new dreams from `starts`. All other steps use the newest
        dreams again. Each optimizer step draws a minibatch of agent steps from the dreams.
        """
        self.update_ema()
        update = int(self.step) % self.config.num_updates
        noise = self.noise_at(int(self.step) - update)
        if update == 0:
            self._dream_anew(starts, noise, generator)
        self.step += 1
        count = max(1, round(self.config.minibatch_fraction * len(self.features)))
        device = self.features.device
        rows = torch.randint(len(self.features), (count,), generator=generator, device=device)
        return self._minibatch_loss(rows, noise)

    def agent_steps_per_update(self, num_dreams: int) -> float:
        """See `ActorCritic`; `num_updates` optimizer steps share a batch of dreams."""
        return super().agent_steps_per_update(num_dreams) / self.config.num_updates

    def noise_at(self, step: int) -> float:
        """The noise's standard deviation at an optimizer step; the noise falls geometrically."""
        done = min(1.0, step / max(1, self.num_steps - 1))
        first, last = self.config.noise, self.config.final_action_std
        return float(first * (last / first) ** done)

    @torch.no_grad()
    def _dream_anew(self, starts: DreamState, noise: float, generator: torch.Generator) -> None:
        dreams = self.dreams(starts, self.config.horizon, noise, generator)
        values, weight = self.values(dreams.features), dreams.weight[:-1]
        returns = dreams.lambda_returns(values[1:], self.discount, self.config.lambda_)
        self.features.copy_(dreams.features[:-1].flatten(0, 1))
        self.sampled_outputs.copy_(dreams.outputs.flatten(0, 1))
        self.advantages.copy_(standardized(returns - values[:-1], weight).flatten())
        self.returns.copy_(returns.flatten())
        self.weight.copy_(weight.flatten())
        likelihood = self._log_likelihood(self.outputs(self.features), self.sampled_outputs, noise)
        self.log_likelihood.copy_(likelihood)
        self.mean_return.copy_(self.return_of(dreams))

    def _minibatch_loss(self, rows: Tensor, noise: float) -> tuple[Tensor, dict[str, Tensor]]:
        features, weight, advantages = self.features[rows], self.weight[rows], self.advantages[rows]
        outputs = self.outputs(features)
        now = self._log_likelihood(outputs, self.sampled_outputs[rows], noise)
        ratio = (now - self.log_likelihood[rows]).exp()
        within = ratio.clamp(1.0 - self.config.clip_range, 1.0 + self.config.clip_range)
        gained = torch.minimum(ratio * advantages, within * advantages)
        if self.task.action_map.discrete:
            gained = gained + self.config.entropy_weight * entropy(outputs)
        error = self.values(features) - self.returns[rows]
        return self.total_loss(
            (weight * gained).mean(), (weight * error.square()).mean(), self.mean_return
        )

    def explore(
        self, outputs: Float[Tensor, "batch output"], noise: float, generator: torch.Generator
    ) -> Float[Tensor, "batch output"]:
        """Sample outputs around C's outputs, or sample discrete actions as one-hot vectors."""
        if not self.task.action_map.discrete:
            return super().explore(outputs, noise, generator)
        uniform = torch.rand(outputs.shape, generator=generator, device=outputs.device)
        # The largest sum of a logit and Gumbel noise is a sample from the softmax of the logits.
        gumbel = -(-uniform.clamp(min=1e-20).log()).log()
        chosen = (outputs + gumbel).argmax(-1)
        return functional.one_hot(chosen, outputs.shape[-1]).to(outputs.dtype)

    def _log_likelihood(
        self,
        outputs: Float[Tensor, "row output"],
        sampled_outputs: Float[Tensor, "row output"],
        noise: float,
    ) -> Float[Tensor, "row"]:
        """The log-likelihood of sampled outputs, given C's outputs."""
        if self.task.action_map.discrete:
            return (outputs.log_softmax(-1) * sampled_outputs).sum(-1)
        error = (sampled_outputs - outputs) / noise
        constant = sampled_outputs.shape[-1] * math.log(noise * math.sqrt(2.0 * math.pi))
        return -0.5 * error.square().sum(-1) - constant


def entropy(logits: Float[Tensor, "row action"]) -> Float[Tensor, "row"]:
    """The entropy, in nats, of the distribution over actions that has these logits."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def standardized(
    numbers: Float[Tensor, "agent_step batch"], weight: Float[Tensor, "agent_step batch"]
) -> Float[Tensor, "agent_step batch"]:
    """Shift and scale `numbers` to a weighted mean of 0 and a weighted standard deviation of 1.

    Agent steps after a dream's end have no weight in the objective. Because of the weights, these
    steps do not change the advantages of the steps before the end.
    """
    total = weight.sum()
    centered = numbers - (weight * numbers).sum() / total
    spread = ((weight * centered.square()).sum() / total).sqrt()
    return centered / (spread + 1e-6)
