"""The predicted outcome of an agent step: its reward, and whether the episode ends."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.data.sequences import PART_STEPS
from worldmodels.memory.protocol import MemorySettings
from worldmodels.training.model import LossAndMetrics

# Predicted rewards take one of 61 values, evenly spaced in symlog. The values reach 147 standard
# deviations to either side of the mean, and lie 0.18 standard deviations apart near the mean.
NUM_VALUES, SYMLOG_REACH = 61, 5.0


class Outcome(NamedTuple):
    """A distribution over the reward of an agent step, and the probability that the episode ends.

    Attributes:
        reward_logits: the logit of each value that a reward can take.
        reward_values: the values that a reward can take, in ascending order and in the env's units.
        end_logit: the logit of the probability that the episode ends with this agent step.
    """

    reward_logits: Float[Tensor, "*batch value"]
    reward_values: Float[Tensor, "value"]
    end_logit: Float[Tensor, "*batch"]

    @property
    def reward(self) -> Float[Tensor, "*batch"]:
        """The expected reward, in the env's units."""
        return self.reward_logits.softmax(-1) @ self.reward_values

    @property
    def end_probability(self) -> Float[Tensor, "*batch"]:
        """Probability that the episode ends with this agent step."""
        return self.end_logit.sigmoid()

    def reward_log_prob(self, rewards: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Compute the log-likelihood of rewards; each reward is split between two adjacent values.

        The two values next to a reward are weighted so that their mean is the reward, as in the
        "two-hot" targets of DreamerV3 (arXiv 2301.04104). The distribution that maximizes the
        likelihood therefore has the right expectation.
        """
        values = self.reward_values
        inside = rewards.clamp(values[0], values[-1])
        above = torch.searchsorted(values, inside.contiguous()).clamp(1, len(values) - 1)
        low, high = values[above - 1], values[above]
        fraction = (inside - low) / (high - low)
        log_p = self.reward_logits.log_softmax(-1)
        pair = log_p.gather(-1, torch.stack([above - 1, above], -1))
        return (1.0 - fraction) * pair[..., 0] + fraction * pair[..., 1]


class OutcomeHead(nn.Module):
    """Maps M's hidden state h to the predicted outcome of an agent step.

    Rewards are measured in standard deviations of the training rewards, so that the same head suits
    every env.
    """

    reward_mean: Tensor
    reward_scale: Tensor
    units: Tensor

    def __init__(self, num_hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_hidden, NUM_VALUES + 1)
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_scale", torch.ones(()))
        even = torch.linspace(-SYMLOG_REACH, SYMLOG_REACH, NUM_VALUES)
        self.register_buffer("units", even.sign() * even.abs().expm1(), persistent=False)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.zero_()

    def calibrate(
        self, rewards: Float[Tensor, "agent_step"], terminated: Bool[Tensor, "agent_step"]
    ) -> None:
        """Set the mean and the scale of rewards, and initialize the predicted probabilities.

        The initial probability of each reward value, and of an end, is its frequency in the data.
        """
        self.reward_mean.copy_(rewards.mean())
        spread = rewards.std(correction=0)
        # Equal rewards have a standard deviation of 0; their unit is then that of the env.
        is_equal = spread <= 1e-6 * rewards.abs().max()
        self.reward_scale.copy_(torch.where(is_equal, torch.ones_like(spread), spread))
        borders = (self._values[1:] + self._values[:-1]) / 2
        # Rewards are counted part by part, because indices take twice the bytes of the rewards.
        counts = torch.zeros(NUM_VALUES, dtype=torch.int64)
        for part in rewards.split(PART_STEPS):
            counts += torch.bincount(torch.bucketize(part, borders), minlength=NUM_VALUES)
        with torch.no_grad():
            self.linear.bias[:-1] = ((counts + 0.1) / (counts + 0.1).sum()).log()
            ends = int(terminated.sum())  # the half keeps the odds of never and of always finite
            self.linear.bias[-1] = math.log((ends + 0.5) / (len(terminated) - ends + 0.5))

    @property
    def _values(self) -> Float[Tensor, "value"]:
        return self.reward_mean + self.reward_scale * self.units

    def forward(self, hidden: Float[Tensor, "*batch hidden"]) -> Outcome:
        """Predict the outcome from M's state h after the agent step."""
        logits = self.linear(hidden)
        return Outcome(logits[..., :-1], self._values, logits[..., -1])

    def add_to(
        self,
        nll: Float[Tensor, ""],
        outcome: Outcome,
        rewards: Float[Tensor, "agent_step"],
        terminated: Bool[Tensor, "agent_step"],
        settings: MemorySettings,
    ) -> LossAndMetrics:
        """Add the mean losses of the reward and of the episode end to the loss of the latents.

        Args:
            nll: negative log-likelihood of the latents, in nats.
            settings: the settings that contain the weights of the losses of reward and end.

        Returns: the loss, and the metrics. `nll`, `reward_nll` and `end_nll` are in nats.
            `reward_error` is the squared error of the expected reward, in units of the variance of
            the training rewards.
        """
        reward_nll = -outcome.reward_log_prob(rewards).mean()
        end_nll = F.binary_cross_entropy_with_logits(outcome.end_logit, terminated.float())
        error = ((outcome.reward.detach() - rewards) / self.reward_scale).square().mean()
        loss = nll + settings.reward_weight * reward_nll + settings.end_weight * end_nll
        parts = {"nll": nll, "reward_nll": reward_nll, "end_nll": end_nll}
        return loss, {**parts, "reward_error": error}
