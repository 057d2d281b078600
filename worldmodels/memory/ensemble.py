"""An ensemble of M's: one prediction that is their mixture, and how far they disagree."""

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
    """The mean of the members' rewards, and of their probabilities that the episode ends."""

    reward: Float[Tensor, "*batch"]
    end_probability: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class EnsemblePrediction:
    """The members' predictions, each with the same weight."""

    members: Sequence[MixturePrediction | CodePrediction]

    @property
    def outcome(self) -> EnsembleOutcome:
        """The means of what the members expect."""
        rewards = [member.outcome.reward for member in self.members]
        ends = [member.outcome.end_probability for member in self.members]
        return EnsembleOutcome(torch.stack(rewards).mean(0), torch.stack(ends).mean(0))

    def log_prob(self, latent_next: Tensor) -> Float[Tensor, "*batch"]:
        """Log-likelihood of the next latent in nats: log of the members' mean probability."""
        each = torch.stack([member.log_prob(latent_next) for member in self.members])
        return each.logsumexp(0) - math.log(len(self.members))

    def sample(
        self, temperature: float = 1.0, generator: Generator | None = None, num_candidates: int = 1
    ) -> Tensor:
        """A next latent, row by row from a member drawn at random.

        The member is drawn at random at temperature 0, too.
        """
        drawn = [member.sample(temperature, generator, num_candidates) for member in self.members]
        uniform = shared_noise(torch.rand, drawn[0][..., 0].float(), generator, num_candidates)
        chosen = (uniform * len(drawn)).long().clamp(max=len(drawn) - 1)
        index = chosen[None, ..., None].expand(1, *drawn[0].shape)
        return torch.stack(drawn).gather(0, index)[0]

    def disagreement(self) -> Float[Tensor, "*batch"]:
        """How far apart the members' expected next latents are.

        The root of the members' variance, summed over the latents, or over the mean codes
        (see `CodePrediction.mean`); 0 where all members agree.
        """
        means = torch.stack([member.mean() for member in self.members])
        return means.var(0, correction=0).sum(-1).sqrt()


class MemoryEnsemble(nn.Module):
    """Models of one kind and size, trained on the same batches from different initial weights.

    The state holds the states of all members side by side; C receives the first member's h.
    """

    def __init__(self, members: Sequence[MDNRNN | CodeRNN]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config
        self.kind = members[0].kind
        self.num_actions = members[0].num_actions
        self.ensemble_size = len(members)

    def calibrate(self, sequences: Sequences) -> None:
        """Calibrate every member; see there."""
        for member in self.independent_parts:
            member.calibrate(sequences)

    def initial(self, batch: int) -> LSTMState:
        """State before an episode's first frame."""
        return _join([member.initial(batch) for member in self.independent_parts])

    def features(self, state: LSTMState) -> Hidden:
        """What C gets: the first member's h."""
        return state.h[..., : self.config.num_hidden]

    def advance(self, state: LSTMState, latent: Tensor, action: Tensor) -> LSTMState:
        """The next state alone."""
        return _join([m.advance(part, latent, action) for m, part in self._with_states(state)])

    def step(
        self, state: LSTMState, latent: Tensor, action: Tensor
    ) -> tuple[LSTMState, EnsemblePrediction]:
        """One agent step: the next state and what the members predict."""
        stepped = [m.step(part, latent, action) for m, part in self._with_states(state)]
        states, predictions = zip(*stepped, strict=True)
        return _join(states), EnsemblePrediction(predictions)

    def sequence(self, state: LSTMState, latents: Tensor, actions: Tensor) -> LSTMOutput:
        """States h of all members after each agent step of whole sequences; equals stepping."""
        run = [m.sequence(part, latents, actions) for m, part in self._with_states(state)]
        hidden, states = zip(*run, strict=True)
        return torch.cat(hidden, -1), _join(states)

    def predict(self, hidden: Hidden, latent: Tensor) -> EnsemblePrediction:
        """The members' predictions from their states side by side."""
        parts = hidden.split(self.config.num_hidden, dim=-1)
        pairs = zip(self.independent_parts, parts, strict=True)
        return EnsemblePrediction([member.predict(part, latent) for member, part in pairs])

    def training_floats(self) -> int:
        """Numbers that `loss` and its gradient hold for one agent step, of all members."""
        return sum(member.training_floats() for member in self.independent_parts)

    def split(self, batch: SequenceBatch) -> Iterator[tuple[SequenceBatch, float]]:
        """Parts of a batch whose loss fits into memory, each with its weight."""
        return split_batch(self, batch)

    def loss(self, batch: SequenceBatch, generator: Generator | None = None) -> LossAndMetrics:
        """The sum of the members' losses, none of which depends on another; mean metrics.

        Each member draws as many numbers from the generator as the others, in their order.
        """
        each = (member.loss(batch, generator) for member in self.independent_parts)
        losses, metrics = zip(*each, strict=True)
        means = {name: torch.stack([m[name] for m in metrics]).mean() for name in metrics[0]}
        return torch.stack(losses).sum(), means

    @property
    def independent_parts(self) -> list[MDNRNN | CodeRNN]:
        """The members, which `fit` must not couple through the norm of all their gradients."""
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList says Module of each

    def _with_states(self, state: LSTMState) -> Iterator[tuple[MDNRNN | CodeRNN, LSTMState]]:
        """Each member and its part of the state."""
        # Contiguous: a product with parts of longer rows may be rounded otherwise than alone.
        parts = (part.split(self.config.num_hidden, -1) for part in state)
        for member, h, c in zip(self.independent_parts, *parts, strict=True):
            yield member, LSTMState(h.contiguous(), c.contiguous())


def _join(states: Sequence[LSTMState]) -> LSTMState:
    return LSTMState(*(torch.cat(parts, -1) for parts in zip(*states, strict=True)))
