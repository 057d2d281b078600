"""M over codes: an LSTM whose output is a mixture over whole frames of codes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.data.sequences import PART_STEPS, SequenceBatch, Sequences
from worldmodels.errors import UserError
from worldmodels.memory.code_frequencies import digit_frequencies, persistence_log_odds
from worldmodels.memory.code_head import CodeHead
from worldmodels.memory.code_prediction import CodePrediction
from worldmodels.memory.code_table import CodeTable
from worldmodels.memory.codes import to_digits
from worldmodels.memory.lstm import LSTM, LSTMState
from worldmodels.memory.outcome import OutcomeHead
from worldmodels.vision.digits import check_digit_sizes

MAX_CODES = 64**2  # a code for every pixel


@dataclass(frozen=True)
class CodeRNNConfig:
    """Settings of M over codes.

    Attributes:
        num_codes: N, codes a frame.
        digit_sizes: values of each digit of a code; FSQ's levels, or (K,) for a codebook.
        vector_size: length of the vector per code stands for.
        num_actions: A.
        num_hidden: LSTM units, the paper's 256 by default.
        num_mixtures: components, each a whole next frame; they keep several futures apart.
        head_width: units of the hidden layer the mixture is read off.
        autoregressive: whether codes of one frame depend on each other; see `CodeHead`.
        reward_weight, end_weight: of their losses beside the codes' negative log-likelihood.
    """

    num_codes: int
    digit_sizes: tuple[int, ...]
    vector_size: int
    num_actions: int
    num_hidden: int = 256
    num_mixtures: int = 5
    head_width: int = 256
    autoregressive: bool = True
    reward_weight: float = 1.0
    end_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("num_codes", "num_actions", "num_hidden", "num_mixtures", "head_width"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_codes > MAX_CODES:
            raise UserError(f"num_codes must be at most {MAX_CODES}, got {self.num_codes}")
        check_digit_sizes(self.digit_sizes)


class CodeRNN(nn.Module):
    """Codes, action, state -> next state and a mixture over the next frame's codes.

    It sees the vectors V's codes stand for (a copy of V's codebook goes with it), so two codes
    that look alike are alike to it.
    """

    kind = "codernn"
    code_vectors: Tensor

    def __init__(
        self, config: CodeRNNConfig, code_vectors: Float[Tensor, "value vector"] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        num_values = math.prod(config.digit_sizes)
        if code_vectors is None:
            code_vectors = torch.zeros(num_values, config.vector_size)
        self.register_buffer("code_vectors", code_vectors.detach().clone())
        inputs = config.num_codes * config.vector_size + config.num_actions
        self.lstm = LSTM(inputs, config.num_hidden)
        table = CodeTable(config.num_codes, config.digit_sizes, self.code_vectors)
        self.head = CodeHead(
            config.num_hidden,
            config.num_codes,
            config.num_mixtures,
            config.head_width,
            table,
            config.autoregressive,
        )
        self.outcome = OutcomeHead(config.num_hidden)

    def calibrate(self, sequences: Sequences) -> None:
        """Begin at the data's own frequencies and habit of staying, and set the reward's units.

        Each digit's log-frequency is its bias, and its log-odds of staying are `keep`: training
        begins near the baseline it has to beat.
        """
        parts = sequences.parts(PART_STEPS)
        self.outcome.calibrate(torch.cat([part.rewards[part.mask] for part in parts]))
        frequencies = digit_frequencies(self._transitions(sequences), self.config.digit_sizes)
        with torch.no_grad():
            self.head.table.bias.copy_(torch.cat(frequencies, -1).log())
            self.head.persistence_bonus.copy_(
                persistence_log_odds(self._transitions(sequences), frequencies)
            )

    def _transitions(self, sequences: Sequences) -> Iterator[tuple[Tensor, Tensor]]:
        """Digits before and after each agent step, in the order codes are drawn in."""
        sizes, order = self.config.digit_sizes, self.head.order.cpu()
        for part in sequences.parts(PART_STEPS):
            now = part.posteriors[:, :-1][part.mask][:, order]
            then = part.posteriors[:, 1:][part.mask][:, order]
            yield to_digits(now, sizes), to_digits(then, sizes)

    def features(self, state: LSTMState) -> Float[Tensor, "*batch hidden"]:
        """What C sees of a state: h."""
        return state.h

    def initial(self, batch: int) -> LSTMState:
        """State before an episode's first frame."""
        return self.lstm.initial(batch)

    def advance(
        self,
        state: LSTMState,
        latent: Int[Tensor, "batch code"],
        action: Float[Tensor, "batch action"],
    ) -> LSTMState:
        """The next state alone: all an agent in the real env needs of M."""
        return self.lstm.step(self._inputs(latent, action), state)

    def step(
        self,
        state: LSTMState,
        latent: Int[Tensor, "batch code"],
        action: Float[Tensor, "batch action"],
    ) -> tuple[LSTMState, CodePrediction]:
        """One agent step: the next state and what it predicts."""
        state = self.advance(state, latent, action)
        return state, self.predict(state.h, latent)

    def sequence(
        self,
        state: LSTMState,
        latents: Int[Tensor, "batch length code"],
        actions: Float[Tensor, "batch length action"],
    ) -> tuple[Float[Tensor, "batch length hidden"], LSTMState]:
        """States h after each agent step of whole sequences; equals stepping."""
        return self.lstm.sequence(self._inputs(latents, actions), state)

    def predict(
        self, hidden: Float[Tensor, "*batch hidden"], latent: Int[Tensor, "*batch code"]
    ) -> CodePrediction:
        """Read a prediction off the state after an agent step taken at the codes `latent`."""
        return CodePrediction(
            self.head,
            self.head.log_pi(hidden).log_softmax(-1),
            self.head.base(hidden, latent),
            latent,
            self.outcome(hidden),
        )

    def training_floats(self) -> int:
        """Numbers that `loss` and its gradient hold for one agent step, at most.

        The log-odds of every value of every code in every component are there 4.5 times
        (measured), beside the LSTM's part; see `MDNRNN`.
        """
        values = self.config.num_mixtures * self.config.num_codes * sum(self.config.digit_sizes)
        return 24 * self.config.num_hidden + 5 * values

    def loss(
        self, batch: SequenceBatch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood of the next codes + reward and end, mean over agent steps."""
        codes = batch.posteriors
        hidden, _ = self.sequence(self.initial(len(batch)), codes[:, :-1], batch.actions)
        # Only real agent steps: the logits of padding would be most of the work.
        prediction = self.predict(hidden[batch.mask], codes[:, :-1][batch.mask])
        nll = -prediction.log_prob(codes[:, 1:][batch.mask]).mean()
        return self.outcome.add_to(
            nll,
            prediction.outcome,
            batch.rewards[batch.mask],
            batch.terminated[batch.mask],
            reward_weight=self.config.reward_weight,
            end_weight=self.config.end_weight,
        )

    def _inputs(self, codes: Tensor, actions: Tensor) -> Tensor:
        return torch.cat([F.embedding(codes, self.code_vectors).flatten(-2), actions], -1)
