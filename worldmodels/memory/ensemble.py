"""An ensemble of Ms: the mixture of their predictions, and their disagreement."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.memory.code_prediction import CodePrediction
from worldmodels.memory.codernn import CodeRNN
from worldmodels.memory.lstm import Hidden, LSTMOutput, LSTMState
from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.memory.mixture_prediction import MixturePrediction
from worldmodels.memory.noise import shared_noise
from worldmodels.memory.part_size import split_batch
from worldmodels.training.model import LossAndMetrics


@dataclass(frozen=True)
class EnsembleOutcome:
    """The expected reward and the end probability, averaged over the members of an ensemble."""

    reward: Float[Tensor, "*batch"]
    end_probability: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class EnsemblePrediction:
    """The mixture of the predictions of all members, with equal weights."""

    members: Sequence[MixturePrediction | CodePrediction]

    @property
    def outcome(self) -> EnsembleOutcome:
        """The means of the members' expected rewards and end probabilities."""
        rewards = [member.outcome.reward for member in self.members]
        ends = [member.outcome.end_probability for member in self.members]
        return EnsembleOutcome(torch.stack(rewards).mean(0), torch.stack(ends).mean(0))

    def log_prob(self, latent_next: Tensor) -> Float[Tensor, "*batch"]:
        """Return the log of the members' mean likelihood of the next latent, in nats."""
        each = torch.stack([member.log_prob(latent_next) for member in self.members])
        return each.logsumexp(0) - math.log(len(self.members))

    def sample(
        self, temperature: float = 1.0, generator: Generator | None = None, num_candidates: int = 1
    ) -> Tensor:
        """Sample the next latent of each row from one member, which is drawn at random.

        Even at temperature 0 the member is drawn at random.
        """
        drawn = [member.sample(temperature, generator, num_candidates) for member in self.members]
        uniform = shared_noise(torch.rand, drawn[0][..., 0].float(), generator, num_candidates)
        chosen = (uniform * len(drawn)).long().clamp(max=len(drawn) - 1)
        index = chosen[None, ..., None].expand(1, *drawn[0].shape)
        return torch.stack(drawn).gather(0, index)[0]

    def disagreement(self) -> Float[Tensor, "*batch"]:
        """Return how far apart the members' expected next latents are.

        For each number of the expected latent, or of the mean codes (see `CodePrediction.mean`),
        the variance over the members is computed. The result is the square root of the sum of these
        variances. The result is 0 if all members agree.
        """
        means = torch.stack([member.mean() for member in self.members])
        return means.var(0, correction=0).sum(-1).sqrt()


class MemoryEnsemble(nn.Module):
    """Several Ms of the same kind and size.

    The members start from different weights and are trained on the same batches. The state of an
    ensemble consists of the concatenated states of all members. C receives only the h of the first
    member.
    """

    def __init__(self, members: Sequence[MDNRNN | CodeRNN]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config
        self.kind = members[0].kind
        self.num_actions = members[0].num_actions
        self.ensemble_size = len(members)

    def calibrate(self, sequences: Sequences) -> None:
        """Calibrate every member."""
        for member in self.independent_parts:
            member.calibrate(sequences)

    def initial(self, batch: int) -> LSTMState:
        """Return the state before an episode's first frame."""
        return _join([member.initial(batch) for member in self.independent_parts])

    def features(self, state: LSTMState) -> Hidden:
        """Return the part of the state that C receives: the first member's h."""
        return state.h[..., : self.config.num_hidden]

    def advance(self, state: LSTMState, latent: Tensor, action: Tensor) -> LSTMState:
        """Compute only the next state, without a prediction."""
        return _join([m.advance(part, latent, action) for m, part in self._with_states(state)])

    def step(
        self, state: LSTMState, latent: Tensor, action: Tensor
    ) -> tuple[LSTMState, EnsemblePrediction]:
        """Take one agent step; return the next state and the prediction."""
        stepped = [m.step(part, latent, action) for m, part in self._with_states(state)]
        states, predictions = zip(*stepped, strict=True)
        return _join(states), EnsemblePrediction(predictions)

    def sequence(self, state: LSTMState, latents: Tensor, actions: Tensor) -> LSTMOutput:
        """Compute the h of all members after each agent step, like repeated calls of `step`."""
        run = [m.sequence(part, latents, actions) for m, part in self._with_states(state)]
        hidden, states = zip(*run, strict=True)
        return torch.cat(hidden, -1), _join(states)

    def predict(self, hidden: Hidden, latent: Tensor) -> EnsemblePrediction:
        """Predict the result of an agent step.

        Args:
            hidden: the concatenated h of all members after the agent step.
            latent: the latent before the agent step.
        """
        parts = hidden.split(self.config.num_hidden, dim=-1)
        pairs = zip(self.independent_parts, parts, strict=True)
        return EnsemblePrediction([member.predict(part, latent) for member, part in pairs])

    def training_floats(self) -> int:
        """Return the largest number of floats per agent step that `loss` and its gradient need."""
        return sum(member.training_floats() for member in self.independent_parts)

    def split(self, batch: SequenceBatch) -> Iterator[tuple[SequenceBatch, float]]:
        """Split a batch into weighted parts, so that the loss of each part fits into memory."""
        return split_batch(self, batch)

    def loss(self, batch: SequenceBatch, generator: Generator | None = None) -> LossAndMetrics:
        """Return the sum of the members' independent losses, and the means of their metrics.

        The members draw random numbers from the generator one after another, and all members draw
        equally many numbers.
        """
        each = (member.loss(batch, generator) for member in self.independent_parts)
        losses, metrics = zip(*each, strict=True)
        means = {name: torch.stack([m[name] for m in metrics]).mean() for name in metrics[0]}
        return torch.stack(losses).sum(), means

    @property
    def independent_parts(self) -> list[MDNRNN | CodeRNN]:
        """The members; `fit` limits the gradient norm of each member separately."""
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList's items have type Module

    def _with_states(self, state: LSTMState) -> Iterator[tuple[MDNRNN | CodeRNN, LSTMState]]:
        """Yield each member and its part of the state."""
        # Contiguous, because a product with parts of longer rows may be rounded differently.
        parts = (part.split(self.config.num_hidden, -1) for part in state)
        for member, h, c in zip(self.independent_parts, *parts, strict=True):
            yield member, LSTMState(h.contiguous(), c.contiguous())


def _join(states: Sequence[LSTMState]) -> LSTMState:
    return LSTMState(*(torch.cat(parts, -1) for parts in zip(*states, strict=True)))
