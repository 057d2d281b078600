"""What a decision brings beside the next latent: its reward, and whether the episode ends."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class Outcome(NamedTuple):
    """Expected reward, in the env's units, and the logit that the episode ends here."""

    reward: Float[Tensor, "*batch"]
    end_logit: Float[Tensor, "*batch"]

    @property
    def end_probability(self) -> Float[Tensor, "*batch"]:
        """Probability that the episode ends with this decision."""
        return self.end_logit.sigmoid()


class OutcomeHead(nn.Module):
    """Hidden state -> outcome.

    Rewards are learned in units of their spread in the data, so that their squared error and the
    latents' log-likelihood stay comparable whatever the env pays.
    """

    reward_mean: Tensor
    reward_scale: Tensor

    def __init__(self, num_hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_hidden, 2)
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_scale", torch.ones(()))
        with torch.no_grad():
            self.linear.weight.zero_()
            # Ends are rare: begin at 1 in 150 rather than 1 in 2.
            self.linear.bias.copy_(torch.tensor([0.0, -5.0]))

    def calibrate(self, rewards: Float[Tensor, "decisions"]) -> None:
        """Take the units from the training rewards."""
        self.reward_mean.copy_(rewards.mean())
        self.reward_scale.copy_(rewards.std().clamp(min=1e-3))

    def forward(self, hidden: Float[Tensor, "*batch hidden"]) -> Outcome:
        """The outcome predicted from the state after the decision."""
        reward, end_logit = self.linear(hidden).unbind(-1)
        return Outcome(self.reward_mean + self.reward_scale * reward, end_logit)

    def loss(
        self,
        outcome: Outcome,
        rewards: Float[Tensor, "*batch"],
        ended: Bool[Tensor, "*batch"],
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Squared reward error in units of the data's variance, and cross-entropy of the end."""
        error = ((outcome.reward - rewards) / self.reward_scale).square()
        return error, F.binary_cross_entropy_with_logits(
            outcome.end_logit, ended.float(), reduction="none"
        )
