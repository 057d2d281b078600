"""The interface of M, which predicts the next latent, the reward and the end of the episode."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Generator, Tensor

from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.errors import check_at_least, check_fraction
from worldmodels.memory.lstm import Hidden, LSTMOutput, LSTMState
from worldmodels.training.model import LossAndMetrics, Model


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Settings that every kind of M has; the defaults are the paper's (arXiv 1803.10122, A.2).

    Attributes:
        num_hidden: number of LSTM units.
        num_mixtures: number of Gaussians per latent dimension, or number of mixture components over
            whole frames of codes.
        reward_weight, end_weight: weights of the losses of reward and end; the loss of the latents
            has weight 1.
        dropout: fraction of the inputs and of the outputs of the LSTM that is set to zero in
            training. Dropout keeps M from memorizing a small data set.
    """

    num_hidden: int = 256
    num_mixtures: int = 5
    reward_weight: float = 1.0
    end_weight: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(1, self, "num_hidden", "num_mixtures")
        check_fraction(self, "dropout")


@runtime_checkable
class ExpectedOutcome(Protocol):
    """The expected reward and the end probability of an agent step."""

    @property
    def reward(self) -> Float[Tensor, "*batch"]:
        """The expected reward, in the env's units."""

    @property
    def end_probability(self) -> Float[Tensor, "*batch"]:
        """Probability that the episode ends with this agent step."""


@runtime_checkable
class Prediction(Protocol):
    """A distribution over the next latent, and the expected outcome."""

    @property
    def outcome(self) -> ExpectedOutcome:
        """The expected reward and the end probability."""

    def log_prob(self, latent_next: Tensor, /) -> Float[Tensor, "*batch"]:
        """Return the log-likelihood of the next latent, in nats."""

    def sample(
        self, temperature: float = 1.0, generator: Generator | None = None, num_candidates: int = 1
    ) -> Tensor:
        """Sample the next latent.

        Args:
            num_candidates: number of blocks of equal size in the batch, one block per candidate.
                Row i of every block gets the same noise (common random numbers).
        """

    def disagreement(self) -> Float[Tensor, "*batch"] | None:
        """Return how far apart the predictions of an ensemble's members are; None for one model."""


@runtime_checkable
class Memory(Model, Protocol):
    """M: `step` and `advance` take one agent step, and `sequence` processes whole episodes.

    Attributes:
        kind: the name of this kind of M in files.
        num_actions: length A of an encoded action.
        ensemble_size: number of models in the ensemble; 1 for a single model.
    """

    kind: str
    num_actions: int
    ensemble_size: int

    @property
    def config(self) -> MemorySettings:
        """The settings of M; for an ensemble, the settings of each model."""

    def calibrate(self, sequences: Sequences) -> None:
        """Set the initial weights from simple statistics of the training data."""

    def initial(self, batch: int) -> LSTMState:
        """Return the state before an episode's first frame."""

    def features(self, state: LSTMState) -> Hidden:
        """Return h: the `config.num_hidden` numbers of a state that C receives."""

    def advance(self, state: LSTMState, latent: Tensor, action: Tensor) -> LSTMState:
        """Compute only the next state; an agent in the real env needs no prediction."""

    def step(
        self, state: LSTMState, latent: Tensor, action: Tensor
    ) -> tuple[LSTMState, Prediction]:
        """Take one agent step; return the next state and the prediction."""

    def sequence(self, state: LSTMState, latents: Tensor, actions: Tensor) -> LSTMOutput:
        """Compute h after each agent step of whole sequences, like repeated calls of `step`."""

    def predict(self, hidden: Hidden, latent: Tensor) -> Prediction:
        """Predict the result of an agent step.

        Args:
            hidden: M's h after the agent step.
            latent: the latent before the agent step.
        """

    def training_floats(self) -> int:
        """Return the largest number of floats per agent step that `loss` and its gradient need."""

    def loss(self, batch: SequenceBatch, generator: Generator | None = None) -> LossAndMetrics:
        """Return the loss as a mean over agent steps, and metrics."""
