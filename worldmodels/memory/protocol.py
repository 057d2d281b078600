"""The contract of M: the next latent, the reward and the end, given the past and an action."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Generator, Tensor

from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.errors import check_at_least
from worldmodels.memory.lstm import Hidden, LSTMOutput, LSTMState
from worldmodels.training.model import LossAndMetrics, Model


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Settings of every M; the defaults are the paper's (arXiv 1803.10122, A.2).

    Attributes:
        num_hidden: LSTM units.
        num_mixtures: Gaussians per latent dimension, or components that are whole frames of codes.
        reward_weight, end_weight: weights of these losses; the latents' has weight 1.
    """

    num_hidden: int = 256
    num_mixtures: int = 5
    reward_weight: float = 1.0
    end_weight: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(1, self, "num_hidden", "num_mixtures")


@runtime_checkable
class ExpectedOutcome(Protocol):
    """What an agent step brings beside the next latent."""

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
        """Reward and end."""

    def log_prob(self, latent_next: Tensor, /) -> Float[Tensor, "*batch"]:
        """Log-likelihood of the next latent, in nats."""

    def sample(
        self, temperature: float = 1.0, generator: Generator | None = None, num_candidates: int = 1
    ) -> Tensor:
        """Sample the next latent.

        Args:
            num_candidates: the batch consists of this many blocks of equal size, and row i of
                every block gets the same noise (common random numbers).
        """

    def disagreement(self) -> Float[Tensor, "*batch"] | None:
        """How far apart the predictions of an ensemble's models are; None for a single model."""


@runtime_checkable
class Memory(Model, Protocol):
    """M: stepped with `step` or `advance`, or applied to whole episodes with `sequence`.

    Attributes:
        kind: its name in files.
        num_actions: length A of an encoded action.
        ensemble_size: number of models whose mixture it is.
    """

    kind: str
    num_actions: int
    ensemble_size: int

    @property
    def config(self) -> MemorySettings:
        """Its settings; of an ensemble, those of each model."""

    def calibrate(self, sequences: Sequences) -> None:
        """Set the initial weights from simple statistics of the training data."""

    def initial(self, batch: int) -> LSTMState:
        """State before an episode's first frame."""

    def features(self, state: LSTMState) -> Hidden:
        """What C gets of a state: h, `config.num_hidden` numbers."""

    def advance(self, state: LSTMState, latent: Tensor, action: Tensor) -> LSTMState:
        """The next state alone: all that an agent in the real env needs of M."""

    def step(
        self, state: LSTMState, latent: Tensor, action: Tensor
    ) -> tuple[LSTMState, Prediction]:
        """One agent step: the next state, and what it predicts."""

    def sequence(self, state: LSTMState, latents: Tensor, actions: Tensor) -> LSTMOutput:
        """States h after each agent step of whole sequences; equals stepping."""

    def predict(self, hidden: Hidden, latent: Tensor) -> Prediction:
        """The prediction of a state after an agent step taken at `latent`."""

    def training_floats(self) -> int:
        """Numbers that `loss` and its gradient hold for one agent step, at most."""

    def loss(self, batch: SequenceBatch, generator: Generator | None = None) -> LossAndMetrics:
        """Mean over agent steps, and metrics."""
