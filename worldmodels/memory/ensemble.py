"""Several M's that vote: one prediction that is their mixture, and how far they disagree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.memory.code_prediction import CodePrediction
from worldmodels.memory.codernn import CodeRNN
from worldmodels.memory.lstm import LSTMState
from worldmodels.memory.mdnrnn import MDNRNN, MixturePrediction
from worldmodels.memory.noise import shared_noise


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
        """Reward and end, as the members expect them on average."""
        outcomes = [member.outcome for member in self.members]
        return EnsembleOutcome(
            torch.stack([outcome.reward for outcome in outcomes]).mean(0),
            torch.stack([outcome.end_probability for outcome in outcomes]).mean(0),
        )

    def log_prob(self, latent_next: Tensor) -> Float[Tensor, "*batch"]:
        """Log-likelihood of the next latent in nats: log of the members' mean probability."""
        each = torch.stack([member.log_prob(latent_next) for member in self.members])
        return each.logsumexp(0) - math.log(len(self.members))

    def sample(
        self,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        num_candidates: int = 1,
    ) -> Tensor:
        """A next latent, row by row from a member drawn at random.

        At temperature 0 too: which member is right is not what temperature is about.
        """
        drawn = [member.sample(temperature, generator, num_candidates) for member in self.members]
        uniform = shared_noise(torch.rand, drawn[0][..., 0].float(), generator, num_candidates)
        chosen = (uniform * len(drawn)).long().clamp(max=len(drawn) - 1)
        index = chosen[None, ..., None].expand(1, *drawn[0].shape)
        return torch.stack(drawn).gather(0, index)[0]

    def disagreement(self) -> Float[Tensor, "*batch"]:
        """How far the members' expected next latents lie apart.

        The root of the members' variance, summed over the latents or over what codes are on
        average (see `CodePrediction.mean`); 0 where all agree.
        """
        means = torch.stack([member.mean() for member in self.members])
        return means.var(0, correction=0).sum(-1).sqrt()


class MemoryEnsemble(nn.Module):
    """Members of one kind and size, trained on the same batches from other first weights.

    Its state is the members' states side by side; what C sees of it is the first member's h.
    """

    def __init__(self, members: Sequence[MDNRNN | CodeRNN]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config
        self.kind = members[0].kind

    def calibrate(self, sequences: Sequences) -> None:
        """Calibrate every member; see there."""
        for member in self._each:
            member.calibrate(sequences)

    def initial(self, batch: int) -> LSTMState:
        """State before an episode's first frame."""
        return _join([member.initial(batch) for member in self._each])

    def features(self, state: LSTMState) -> Float[Tensor, "*batch hidden"]:
        """What C sees: the first member's h."""
        return state.h[..., : self.config.num_hidden]

    def advance(self, state: LSTMState, latent: Tensor, action: Tensor) -> LSTMState:
        """The next state alone."""
        parts = zip(self._each, self._split(state), strict=True)
        return _join([member.advance(part, latent, action) for member, part in parts])

    def step(
        self, state: LSTMState, latent: Tensor, action: Tensor
    ) -> tuple[LSTMState, EnsemblePrediction]:
        """One agent step: the next state and what the members predict."""
        parts = zip(self._each, self._split(state), strict=True)
        stepped = [member.step(part, latent, action) for member, part in parts]
        states, predictions = zip(*stepped, strict=True)
        return _join(states), EnsemblePrediction(predictions)

    def sequence(
        self, state: LSTMState, latents: Tensor, actions: Tensor
    ) -> tuple[Float[Tensor, "batch length hidden"], LSTMState]:
        """States h of all members after each agent step of whole sequences; equals stepping."""
        parts = zip(self._each, self._split(state), strict=True)
        run = [member.sequence(part, latents, actions) for member, part in parts]
        hidden, states = zip(*run, strict=True)
        return torch.cat(hidden, -1), _join(states)

    def predict(self, hidden: Float[Tensor, "*batch hidden"], latent: Tensor) -> EnsemblePrediction:
        """Read the members' predictions off their states side by side."""
        parts = hidden.split(self.config.num_hidden, dim=-1)
        return EnsemblePrediction(
            [member.predict(part, latent) for member, part in zip(self._each, parts, strict=True)]
        )

    def training_floats(self) -> int:
        """Numbers that `loss` and its gradient hold for one agent step, of all members."""
        return sum(member.training_floats() for member in self._each)

    def loss(
        self, batch: SequenceBatch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the members' losses, none of which depends on another; mean metrics.

        Each member draws as many numbers from the generator as the others, in their order.
        """
        losses, metrics = zip(
            *(member.loss(batch, generator) for member in self._each), strict=True
        )
        names = metrics[0]
        return torch.stack(losses).sum(), {
            name: torch.stack([each[name] for each in metrics]).mean() for name in names
        }

    @property
    def independent_parts(self) -> list[nn.Module]:
        """The members, which `fit` must not couple through the norm of all their gradients."""
        return list(self.members)

    @property
    def _each(self) -> list[MDNRNN | CodeRNN]:
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList says Module of each

    def _split(self, state: LSTMState) -> list[LSTMState]:
        # Contiguous: a product with parts of longer rows may be rounded otherwise than alone.
        size = self.config.num_hidden
        return [
            LSTMState(h.contiguous(), c.contiguous())
            for h, c in zip(state.h.split(size, -1), state.c.split(size, -1), strict=True)
        ]


def _join(states: Sequence[LSTMState]) -> LSTMState:
    return LSTMState(
        torch.cat([state.h for state in states], -1), torch.cat([state.c for state in states], -1)
    )
