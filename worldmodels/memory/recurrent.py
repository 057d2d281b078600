"""What M over latents and M over codes share: the LSTM, the outcome, stepping and the loss."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodels.data.sequences import PART_STEPS, SequenceBatch, Sequences
from worldmodels.memory.code_prediction import CodePrediction
from worldmodels.memory.lstm import LSTM, Hidden, LSTMOutput, LSTMState
from worldmodels.memory.mixture_prediction import MixturePrediction
from worldmodels.memory.outcome import OutcomeHead
from worldmodels.memory.part_size import split_batch
from worldmodels.memory.protocol import MemorySettings
from worldmodels.training.model import LossAndMetrics


class RecurrentMemory(nn.Module, ABC):
    """Latent, action, state -> next state, and a prediction from it.

    Subclasses make a head that predicts the next latent, then the attribute `outcome`: the order
    in which weights are drawn.

    Args:
        num_inputs: numbers of a latent and an action as the LSTM gets them.
        num_actions: length A of an encoded action.
    """

    kind: str
    config: MemorySettings
    outcome: OutcomeHead
    ensemble_size = 1

    def __init__(self, config: MemorySettings, num_inputs: int, num_actions: int) -> None:
        super().__init__()
        self.config = config
        self.num_actions = num_actions
        self.lstm = LSTM(num_inputs, config.num_hidden)

    def calibrate(self, sequences: Sequences) -> None:
        """Begin at simple statistics of the training data: the reward's units, then the head."""
        parts = sequences.parts(PART_STEPS)
        self.outcome.calibrate(torch.cat([part.rewards[part.mask] for part in parts]))
        with torch.no_grad():
            self._calibrate_head(sequences)

    @abstractmethod
    def _calibrate_head(self, sequences: Sequences) -> None:
        """Begin near the baseline that has to be beaten: "the next latent is this one"."""

    @abstractmethod
    def predict(self, hidden: Hidden, latent: Tensor) -> MixturePrediction | CodePrediction:
        """The prediction of a state after an agent step taken at `latent`."""

    @abstractmethod
    def training_floats(self) -> int:
        """Numbers that `loss` and its gradient hold for one agent step, at most."""

    @abstractmethod
    def _sample(self, posteriors: Tensor, generator: Generator | None) -> Tensor:
        """Latents sampled from V's posterior."""

    @abstractmethod
    def _embed(self, latents: Tensor) -> Float[Tensor, "*batch number"]:
        """Latents as the LSTM gets them."""

    def _inputs(self, latents: Tensor, actions: Tensor) -> Float[Tensor, "*batch input"]:
        return torch.cat([self._embed(latents), actions], -1)

    def features(self, state: LSTMState) -> Hidden:
        """What C gets of a state: h."""
        return state.h

    def initial(self, batch: int) -> LSTMState:
        """State before an episode's first frame."""
        return self.lstm.initial(batch)

    def advance(self, state: LSTMState, latent: Tensor, action: Tensor) -> LSTMState:
        """The next state alone: all that an agent in the real env needs of M."""
        return self.lstm.step(self._inputs(latent, action), state)

    def step(
        self, state: LSTMState, latent: Tensor, action: Tensor
    ) -> tuple[LSTMState, MixturePrediction | CodePrediction]:
        """One agent step: the next state, and what it predicts."""
        state = self.advance(state, latent, action)
        return state, self.predict(state.h, latent)

    def sequence(self, state: LSTMState, latents: Tensor, actions: Tensor) -> LSTMOutput:
        """States h after each agent step of whole sequences; equals stepping."""
        return self.lstm.sequence(self._inputs(latents, actions), state)

    def split(self, batch: SequenceBatch) -> Iterator[tuple[SequenceBatch, float]]:
        """Parts of a batch whose loss fits into memory, each with its weight."""
        return split_batch(self, batch)

    def loss(self, batch: SequenceBatch, generator: Generator | None = None) -> LossAndMetrics:
        """Negative log-likelihood of the next latent + reward and end, mean over agent steps.

        Latents are drawn anew from V's posterior in every call (arXiv 1803.10122, A.2).
        """
        mask = batch.mask
        latents = self._sample(batch.posteriors, generator)
        hidden, _ = self.sequence(self.initial(len(batch)), latents[:, :-1], batch.actions)
        # Only real agent steps: predictions from padding would be most of the work.
        prediction = self.predict(hidden[mask], latents[:, :-1][mask])
        nll = -prediction.log_prob(latents[:, 1:][mask]).mean()
        happened = batch.rewards[mask], batch.terminated[mask]
        return self.outcome.add_to(nll, prediction.outcome, *happened, self.config)
