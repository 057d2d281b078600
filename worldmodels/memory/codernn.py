"""M over codes: an LSTM whose output is a mixture of products of categoricals."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodels.data.batches import SequenceBatch
from worldmodels.errors import UserError
from worldmodels.memory.lstm import LSTM, LSTMState
from worldmodels.memory.noise import shared_noise
from worldmodels.memory.outcome import Outcome, OutcomeHead


@dataclass(frozen=True)
class CodeRNNConfig:
    """Settings of M over codes.

    Attributes:
        num_codes: N, codes a frame.
        digit_sizes: values of each digit of a code; FSQ's levels, or (K,) for a codebook.
        vector_size: length of the vector a code stands for.
        num_actions: A.
        num_hidden: LSTM units, the paper's 256 by default.
        num_mixtures: components, each a whole next frame; they keep several futures apart.
        reward_weight, end_weight: of their losses beside the codes' negative log-likelihood.
    """

    num_codes: int
    digit_sizes: tuple[int, ...]
    vector_size: int
    num_actions: int
    num_hidden: int = 256
    num_mixtures: int = 5
    reward_weight: float = 1.0
    end_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("num_codes", "num_actions", "num_hidden", "num_mixtures"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class CodePrediction:
    """A mixture over whole next frames of codes, and the outcome.

    Within a component the codes are independent given the past, and so are their digits but for
    one thing: whether a digit keeps its value may depend on whether the digits before it, in
    the same code, kept theirs. Which codes move together can only be said by the mixture.

    Attributes:
        log_pi: of the K components.
        logits: one tensor a digit, each with as many values as its digit.
        keep: log-odds added to the value a digit has now, by [a digit before it changed, all
            before it kept].
        now: digits of the present codes.
        digit_sizes: values of each digit.
    """

    log_pi: Float[Tensor, "*batch mixture"]
    logits: list[Float[Tensor, "*batch mixture code _"]]
    keep: Float[Tensor, "code digit 2"]
    now: Int[Tensor, "*batch code digit"]
    digit_sizes: tuple[int, ...]
    outcome: Outcome

    def log_prob(self, codes_next: Int[Tensor, "*batch code"]) -> Float[Tensor, "*batch"]:
        """Log-likelihood of the next codes, in nats, summed over the frame's codes."""
        then = to_digits(codes_next, self.digit_sizes)
        kept = torch.ones_like(codes_next, dtype=torch.bool)
        total: Tensor = self.log_pi.new_zeros(())
        for digit, logits in enumerate(self.logits):
            logits = self._with_keep(logits, digit, kept[..., None, :])
            target = then[..., digit][..., None, :, None].expand(*logits.shape[:-1], 1)
            # Not log_softmax: over a handful of values torch's is 4x slower than this.
            log_p = logits.gather(-1, target)[..., 0] - _log_sum_exp(logits)
            total = total + log_p.sum(-1)
            kept = kept & (then[..., digit] == self.now[..., digit])
        return (self.log_pi + total).logsumexp(-1)

    def sample(
        self,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        copies: int = 1,
    ) -> Int[Tensor, "*batch code"]:
        """Next codes; temperature 0 takes the likeliest component's likeliest digits.

        `copies`: the batch is so many equal blocks, and row i of each gets the same noise.

        The component is chosen first, then only its codes are drawn: sampling over all logits
        costs several times as much.
        """
        component = _draw(self.log_pi, temperature, generator, copies)
        kept = torch.ones(self.now.shape[:-1], dtype=torch.bool, device=self.now.device)
        digits = []
        for digit, logits in enumerate(self.logits):
            index = component[..., None, None, None].expand(*component.shape, 1, *logits.shape[-2:])
            one = logits.shape[-3] == 1
            chosen = (logits if one else logits.gather(-3, index))[..., 0, :, :]
            drawn = _draw(self._with_keep(chosen, digit, kept), temperature, generator, copies)
            kept = kept & (drawn == self.now[..., digit])
            digits.append(drawn)
        return from_digits(torch.stack(digits, -1), self.digit_sizes)

    def _with_keep(self, logits: Tensor, digit: int, kept: Tensor) -> Tensor:
        """Logits (..., [mixture,] code, value) with the log-odds of keeping added."""
        bonus = torch.where(kept, self.keep[:, digit, 1], self.keep[:, digit, 0])
        now = self.now[..., digit]
        while now.dim() < bonus.dim():
            now = now[..., None, :]
        where = now[..., None].expand(*logits.shape[:-1], 1)
        return logits.scatter_add(-1, where, bonus[..., None].expand(*logits.shape[:-1], 1))


class CodeRNN(nn.Module):
    """Codes, action, state -> next state and a mixture over the next frame's codes.

    It sees the vectors V's codes stand for (a copy of V's codebook goes with it), so two codes
    that look alike are alike to it.
    """

    kind = "codernn"
    discrete = True
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
        self.log_pi = nn.Linear(config.num_hidden, config.num_mixtures)
        per_component = config.num_codes * sum(config.digit_sizes)
        self.logits = nn.Linear(config.num_hidden, config.num_mixtures * per_component)
        self.keep = nn.Parameter(torch.zeros(config.num_codes, len(config.digit_sizes), 2))
        self.outcome = OutcomeHead(config.num_hidden)

    def calibrate(self, sequences: SequenceBatch) -> None:
        """Begin at the data's own frequencies and habit of staying, and set the reward's units.

        The output layer starts near zero, each digit's log-frequency as its bias and its
        log-odds of staying as `keep`: training begins near the baseline it has to beat.
        """
        self.outcome.calibrate(sequences.rewards[sequences.mask])
        sizes = self.config.digit_sizes
        now = to_digits(sequences.posteriors[:, :-1][sequences.mask], sizes)
        then = to_digits(sequences.posteriors[:, 1:][sequences.mask], sizes)
        shape = (self.config.num_mixtures, self.config.num_codes, sum(sizes))
        with torch.no_grad():
            self.logits.weight.mul_(0.1)
            biases = self.logits.bias.view(shape).split(list(sizes), dim=-1)
            kept = torch.ones_like(now[..., 0], dtype=torch.bool)
            for digit, (size, bias) in enumerate(zip(sizes, biases, strict=True)):
                stays = (then[..., digit] == now[..., digit]).float()
                # Counted, not summed over one-hot rows: those of 100,000 decisions are gigabytes.
                counts = torch.zeros(self.config.num_codes, size)
                counts.scatter_add_(1, then[..., digit].T, torch.ones_like(stays.T))
                frequency = (counts + 0.5) / (len(then) + 0.5 * size)
                bias.copy_(frequency.log())
                chance = frequency.gather(1, then[..., digit].T).T
                for flag in (0, 1):
                    rows = (kept == bool(flag)).float()
                    weight = rows.sum(0) + 1.0
                    rate = ((stays * rows).sum(0) + 0.5) / weight
                    luck = ((chance * rows).sum(0) + 0.5) / weight
                    self.keep[:, digit, flag] = (_logit(rate) - _logit(luck)).clamp(min=0.0)
                kept = kept & (then[..., digit] == now[..., digit])

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
        """One decision: the next state and what it predicts."""
        state = self.advance(state, latent, action)
        return state, self.predict(state.h, latent)

    def sequence(
        self,
        state: LSTMState,
        latents: Int[Tensor, "batch length code"],
        actions: Float[Tensor, "batch length action"],
    ) -> tuple[Float[Tensor, "batch length hidden"], LSTMState]:
        """States h after each decision of whole sequences; equals stepping."""
        return self.lstm.sequence(self._inputs(latents, actions), state)

    def predict(
        self, hidden: Float[Tensor, "*batch hidden"], latent: Int[Tensor, "*batch code"]
    ) -> CodePrediction:
        """Read a prediction off the state after a decision taken at the codes `latent`."""
        config = self.config
        shape = (*hidden.shape[:-1], config.num_mixtures, config.num_codes, -1)
        logits = self.logits(hidden).view(shape)
        return CodePrediction(
            self.log_pi(hidden).log_softmax(-1),
            list(logits.split(list(config.digit_sizes), dim=-1)),
            self.keep,
            to_digits(latent, config.digit_sizes),
            config.digit_sizes,
            self.outcome(hidden),
        )

    def loss(
        self, batch: SequenceBatch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood of the next codes + reward and end, mean over decisions."""
        codes = batch.posteriors
        hidden, _ = self.sequence(self.initial(len(batch)), codes[:, :-1], batch.actions)
        # Only real decisions: the logits of padding would be most of the work.
        prediction = self.predict(hidden[batch.mask], codes[:, :-1][batch.mask])
        nll = -prediction.log_prob(codes[:, 1:][batch.mask]).mean()
        reward, end = self.outcome.loss(
            prediction.outcome, batch.rewards[batch.mask], batch.ended[batch.mask]
        )
        reward, end = reward.mean(), end.mean()
        loss = nll + self.config.reward_weight * reward + self.config.end_weight * end
        return loss, {"nll": nll, "reward_error": reward, "end_error": end}

    def _inputs(self, codes: Tensor, actions: Tensor) -> Tensor:
        return torch.cat([self.code_vectors[codes].flatten(-2), actions], -1)


def to_digits(codes: Int[Tensor, "*batch"], sizes: tuple[int, ...]) -> Int[Tensor, "*batch digit"]:
    """Code indices as digits of the given sizes, the first one changing fastest."""
    digits, rest = [], codes
    for size in sizes:
        digits.append(rest % size)
        rest = rest // size
    return torch.stack(digits, -1)


def from_digits(
    digits: Int[Tensor, "*batch digit"], sizes: tuple[int, ...]
) -> Int[Tensor, "*batch"]:
    """The inverse of `to_digits`."""
    codes = torch.zeros_like(digits[..., 0])
    for digit, size in reversed(list(enumerate(sizes))):
        codes = codes * size + digits[..., digit]
    return codes


def _draw(
    logits: Float[Tensor, "*batch value"],
    temperature: float,
    generator: torch.Generator | None,
    copies: int,
) -> Int[Tensor, "*batch"]:
    """One value a row, by inverse cumulative probability; temperature 0 takes the largest."""
    if temperature <= 0 or logits.shape[-1] == 1:
        return logits.argmax(-1)
    # Not softmax: over a handful of values torch's takes 2.0 ms where this takes 0.2.
    weights = ((logits - logits.amax(-1, keepdim=True)) / temperature).exp()
    cumulative = weights.cumsum(-1)
    uniform = shared_noise(torch.rand, logits[..., 0], generator, copies)[..., None]
    return (uniform * cumulative[..., -1:] > cumulative[..., :-1]).sum(-1)


def _log_sum_exp(logits: Float[Tensor, "*batch value"]) -> Float[Tensor, "*batch"]:
    largest = logits.detach().amax(-1, keepdim=True)
    return (logits - largest).exp().sum(-1).log() + largest[..., 0]


def _logit(probability: Tensor) -> Tensor:
    return probability.log() - (1.0 - probability).clamp(min=1e-6).log()
