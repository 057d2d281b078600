"""The base class of M over latents and of M over codes, which contains the LSTM and the loss."""

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
    """An M that maps latent, action and state to the next state and a prediction.

    A subclass first creates a head that predicts the next latent, and then creates the attribute
    `outcome`. The order matters, because layers draw their initial weights in the order in which
    they are created.

    Args:
        num_inputs: number of inputs of the LSTM. The inputs are an embedded latent and an encoded
            action.
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
        self.dropout = nn.Dropout(config.dropout)

    def calibrate(self, sequences: Sequences) -> None:
        """Initialize the outcome head and the latent head from statistics of the training data."""
        parts = sequences.parts(PART_STEPS)
        pairs = [(part.rewards[part.mask], part.terminated[part.mask]) for part in parts]
        self.outcome.calibrate(*map(torch.cat, zip(*pairs, strict=True)))
        with torch.no_grad():
            self._calibrate_head(sequences)

    @abstractmethod
    def _calibrate_head(self, sequences: Sequences) -> None:
        """Initialize the head near the persistence baseline."""

    @abstractmethod
    def predict(self, hidden: Hidden, latent: Tensor) -> MixturePrediction | CodePrediction:
        """Predict the result of an agent step.

        Args:
            hidden: M's h after the agent step.
            latent: the latent before the agent step.
        """

    @abstractmethod
    def training_floats(self) -> int:
        """Return the largest number of floats per agent step that `loss` and its gradient need."""

    @abstractmethod
    def _sample(self, posteriors: Tensor, generator: Generator | None) -> Tensor:
        """Sample latents from V's posterior."""

    @abstractmethod
    def _embed(self, latents: Tensor) -> Float[Tensor, "*batch number"]:
        """Convert latents to inputs of the LSTM."""

    def _inputs(self, latents: Tensor, actions: Tensor) -> Float[Tensor, "*batch input"]:
        return torch.cat([self._embed(latents), actions], -1)

    def features(self, state: LSTMState) -> Hidden:
        """Return h, the part of a state that C receives."""
        return state.h

    def initial(self, batch: int) -> LSTMState:
        """Return the state before an episode's first frame."""
        return self.lstm.initial(batch)

    def advance(self, state: LSTMState, latent: Tensor, action: Tensor) -> LSTMState:
        """Compute only the next state; an agent in the real env needs no prediction."""
        return self.lstm.step(self._inputs(latent, action), state)

    def step(
        self, state: LSTMState, latent: Tensor, action: Tensor
    ) -> tuple[LSTMState, MixturePrediction | CodePrediction]:
        """Take one agent step; return the next state and the prediction."""
        state = self.advance(state, latent, action)
        return state, self.predict(state.h, latent)

    def sequence(self, state: LSTMState, latents: Tensor, actions: Tensor) -> LSTMOutput:
        """Compute h after each agent step of whole sequences, like repeated calls of `step`."""
        return self.lstm.sequence(self._inputs(latents, actions), state)

    def split(self, batch: SequenceBatch) -> Iterator[tuple[SequenceBatch, float]]:
        """Split a batch into weighted parts, so that the loss of each part fits into memory."""
        return split_batch(self, batch)

    def loss(self, batch: SequenceBatch, generator: Generator | None = None) -> LossAndMetrics:
        """Compute the loss of the next latent, the reward and the end, as a mean over agent steps.

        Each call draws new latents from V's posterior (arXiv 1803.10122, A.2).
        """
        mask = batch.mask
        latents = self._sample(batch.posteriors, generator)
        inputs = self.dropout(self._inputs(latents[:, :-1], batch.actions))
        outputs, _ = self.lstm.sequence(inputs, self.initial(len(batch)))
        hidden = self.dropout(outputs)
        # Only real agent steps are predicted, because padding would be most of the work.
        prediction = self.predict(hidden[mask], latents[:, :-1][mask])
        nll = -prediction.log_prob(latents[:, 1:][mask]).mean()
        happened = batch.rewards[mask], batch.terminated[mask]
        return self.outcome.add_to(nll, prediction.outcome, *happened, self.config)
