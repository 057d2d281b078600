"""M over codes: an LSTM whose output is a mixture of distributions over the next frame's codes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from worldmodels.data.sequences import PART_STEPS, Sequences
from worldmodels.errors import UserError, check_at_least
from worldmodels.memory.code_frequencies import digit_frequencies, persistence_log_odds
from worldmodels.memory.code_head import CodeHead
from worldmodels.memory.code_prediction import CodePrediction
from worldmodels.memory.code_table import CodeTable
from worldmodels.memory.codes import Codes, to_digits
from worldmodels.memory.lstm import Hidden
from worldmodels.memory.outcome import OutcomeHead
from worldmodels.memory.protocol import MemorySettings
from worldmodels.memory.recurrent import RecurrentMemory
from worldmodels.vision.digits import check_digit_sizes

MAX_CODES = 64**2  # a code for every pixel


@dataclass(frozen=True, kw_only=True)
class CodeRNNSettings(MemorySettings):
    """The settings of an M over codes that do not depend on V.

    Attributes:
        head_width: number of units of the hidden layer from which the mixture is computed.
        autoregressive: whether the codes of one frame depend on each other within a component of
            the mixture; see `CodeHead`.
    """

    head_width: int = 256
    autoregressive: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "head_width")


@dataclass(frozen=True)
class CodeRNNConfig(CodeRNNSettings):
    """All settings of an M over codes.

    Attributes:
        num_codes: the number N of codes per frame.
        digit_sizes: number of values of each digit of a code: FSQ's levels for a lattice, or (K,)
            for a codebook.
        vector_size: length of the vector that a code stands for.
        num_actions: length A of an encoded action.
    """

    num_codes: int
    digit_sizes: tuple[int, ...]
    vector_size: int
    num_actions: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "num_codes", "num_actions")
        if self.num_codes > MAX_CODES:
            raise UserError(f"num_codes must be at most {MAX_CODES}, got {self.num_codes}")
        check_digit_sizes(self.digit_sizes)


class CodeRNN(RecurrentMemory):
    """An M that maps codes, action and state to the next state and a prediction of the next codes.

    The LSTM receives the vectors of the codes, so codes with similar vectors are similar inputs.
    The model holds a copy of V's codebook.
    """

    kind = "codernn"
    config: CodeRNNConfig
    code_vectors: Tensor

    def __init__(
        self, config: CodeRNNConfig, code_vectors: Float[Tensor, "value vector"] | None = None
    ) -> None:
        num_inputs = config.num_codes * config.vector_size + config.num_actions
        super().__init__(config, num_inputs, config.num_actions)
        if code_vectors is None:
            code_vectors = torch.zeros(math.prod(config.digit_sizes), config.vector_size)
        self.register_buffer("code_vectors", code_vectors.detach().clone())
        table = CodeTable(config.num_codes, config.digit_sizes, self.code_vectors)
        sizes = config.num_hidden, config.num_codes, config.num_mixtures, config.head_width
        self.head = CodeHead(*sizes, table, config.autoregressive)
        self.outcome = OutcomeHead(config.num_hidden)

    def _calibrate_head(self, sequences: Sequences) -> None:
        """Initialize the head with the frequencies and the persistence of the training codes.

        The log-frequencies of a digit's values become the biases of the logits of these values. The
        result of `persistence_log_odds` becomes the persistence bonuses. Training therefore begins
        near the persistence baseline.
        """
        frequencies = digit_frequencies(self._transitions(sequences), self.config.digit_sizes)
        bonus = persistence_log_odds(self._transitions(sequences), frequencies)
        self.head.table.bias.copy_(torch.cat(frequencies, -1).log())
        self.head.persistence_bonus.copy_(bonus)

    def _transitions(self, sequences: Sequences) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the digits before and after each agent step, with codes in sampling order."""
        sizes, order = self.config.digit_sizes, self.head.order.cpu()
        for part in sequences.parts(PART_STEPS):
            digits = to_digits(part.posteriors[..., order], sizes)
            yield digits[:, :-1][part.mask], digits[:, 1:][part.mask]

    def predict(self, hidden: Hidden, latent: Codes) -> CodePrediction:
        """Predict the result of an agent step.

        Args:
            hidden: M's h after the agent step.
            latent: the codes before the agent step.
        """
        return CodePrediction(
            self.head,
            self.head.log_pi(hidden).log_softmax(-1),
            self.head.base(hidden, latent),
            latent,
            self.outcome(hidden),
        )

    def training_floats(self) -> int:
        """Return the largest number of floats per agent step that `loss` and its gradient need.

        The largest part of the floats is 4.5 copies (measured) of the logits of all components. The
        LSTM needs 24 floats per unit; see `MDNRNN.training_floats`.
        """
        values = self.config.num_mixtures * self.config.num_codes * sum(self.config.digit_sizes)
        return 24 * self.config.num_hidden + 5 * values

    def _sample(self, posteriors: Tensor, generator: torch.Generator | None) -> Tensor:
        return posteriors

    def _embed(self, latents: Tensor) -> Tensor:
        return F.embedding(latents, self.code_vectors).flatten(-2)
