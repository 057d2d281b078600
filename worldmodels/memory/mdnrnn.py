"""M over continuous latents: an LSTM with a mixture density output (MDN-RNN)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.data.sequences import PART_STEPS, SequenceBatch, Sequences
from worldmodels.errors import UserError
from worldmodels.memory.codes import log_sum_exp, sample_categorical
from worldmodels.memory.lstm import LSTM, LSTMState
from worldmodels.memory.mixture_gradient import attach_gradient
from worldmodels.memory.noise import shared_noise
from worldmodels.memory.outcome import Outcome, OutcomeHead

LOG_SIGMA_RANGE = (-7.0, 4.0)


@dataclass(frozen=True)
class MDNRNNConfig:
    """Settings of the MDN-RNN; the defaults are the paper's (arXiv 1803.10122, A.2).

    Attributes:
        num_latents, num_actions: Z and A.
        num_hidden: LSTM units.
        num_mixtures: Gaussians a latent dimension.
        predict_change: the Gaussians' means are offsets from the present latent; the paper
            predicts the next latent itself.
        reward_weight, end_weight: of their losses beside the latents' negative log-likelihood.
    """

    num_latents: int
    num_actions: int
    num_hidden: int = 256
    num_mixtures: int = 5
    predict_change: bool = False
    reward_weight: float = 1.0
    end_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("num_latents", "num_actions", "num_hidden", "num_mixtures"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class MixturePrediction:
    """A mixture of K Gaussians for each dimension of the next latent, and the outcome."""

    log_pi: Float[Tensor, "*batch latent mixture"]
    mu: Float[Tensor, "*batch latent mixture"]
    log_sigma: Float[Tensor, "*batch latent mixture"]
    outcome: Outcome

    def log_prob(self, z_next: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Log-likelihood of the next latent, in nats, summed over latent dimensions.

        Source: arXiv 1803.10122, A.2: each dimension is mixed on its own.
        """
        deviation = (z_next[..., None] - self.mu) * (-self.log_sigma).exp()
        log_normal = -0.5 * (deviation.square() + math.log(2 * math.pi)) - self.log_sigma
        return (self.log_pi + log_normal).logsumexp(-1).sum(-1)

    def mean(self) -> Float[Tensor, "*batch latent"]:
        """The expected next latent."""
        return (self.log_pi.exp() * self.mu).sum(-1)

    def sample(
        self,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        num_candidates: int = 1,
    ) -> Float[Tensor, "*batch latent"]:
        """A next latent; temperature 0 gives the mean of the likeliest Gaussian.

        `num_candidates`: the batch is so many equal blocks, and row i of each gets the same noise.
        Temperature tau divides the mixture's logits and multiplies the variances.
        Source: arXiv 1803.10122, 4.2 and A.2; the gradient, see `mixture_gradient`.
        """
        if temperature <= 0:
            component = self.log_pi.argmax(-1, keepdim=True)
            return self.mu.gather(-1, component)[..., 0]
        if self.mu.shape[-1] == 1:
            mu, log_sigma = self.mu[..., 0], self.log_sigma[..., 0]
            noise = shared_noise(torch.randn, mu, generator, num_candidates)
            return mu + math.sqrt(temperature) * log_sigma.exp() * noise
        parameters = (self.log_pi, self.mu, self.log_sigma)
        with torch.no_grad():
            component = sample_categorical(self.log_pi, temperature, generator, num_candidates)[
                ..., None
            ]
            mu = self.mu.gather(-1, component)[..., 0]
            log_sigma = self.log_sigma.gather(-1, component)[..., 0]
            noise = shared_noise(torch.randn, mu, generator, num_candidates)
            sample = mu + math.sqrt(temperature) * log_sigma.exp() * noise
        if torch.is_grad_enabled() and any(part.requires_grad for part in parameters):
            return attach_gradient(sample, *parameters, temperature)
        return sample


class MDNRNN(nn.Module):
    """Latent, action, state -> next state and a mixture over the next latent."""

    kind = "mdnrnn"

    def __init__(self, config: MDNRNNConfig) -> None:
        super().__init__()
        self.config = config
        self.lstm = LSTM(config.num_latents + config.num_actions, config.num_hidden)
        outputs = 3 * config.num_latents * config.num_mixtures
        self.mixture = nn.Linear(config.num_hidden, outputs)
        self.outcome = OutcomeHead(config.num_hidden)

    def calibrate(self, sequences: Sequences) -> None:
        """Set the reward's units; with `predict_change`, begin as "the next latent is this one".

        The output layer starts near zero with the spread of the latents' change as its width, so
        that training begins at that baseline instead of having to find it. The spread is that of
        latents drawn from V's posterior, as `loss` draws them: means alone hardly move where V
        ignores a dimension, and the first loss would be thousands of nats.

        One pass over all data, part by part.
        """
        rewards: list[Tensor] = []
        total = torch.zeros(self.config.num_latents, dtype=torch.float64)
        for part in sequences.parts(PART_STEPS):
            rewards.append(part.rewards[part.mask])
            if self.config.predict_change:
                mu, logvar = part.posteriors.chunk(2, dim=-1)
                change = (mu[:, 1:] - mu[:, :-1])[part.mask]
                drawn = (logvar[:, 1:].exp() + logvar[:, :-1].exp())[part.mask]
                total += (change.square() + drawn).sum(0)
        self.outcome.calibrate(torch.cat(rewards))
        if not self.config.predict_change:
            return
        spread = (total.float() / sum(len(part) for part in rewards)).sqrt()
        with torch.no_grad():
            self.mixture.weight.mul_(0.1)
            bias = self.mixture.bias.view(3, self.config.num_latents, -1)
            bias.zero_()
            bias[2] = spread.clamp(min=1e-2).log()[:, None]
            # Mixtures of different width, so that they do not all learn the same.
            bias[2] += torch.linspace(-1, 1, self.config.num_mixtures + 2)[1:-1]

    def features(self, state: LSTMState) -> Float[Tensor, "*batch hidden"]:
        """What C sees of a state: h."""
        return state.h

    def initial(self, batch: int) -> LSTMState:
        """State before an episode's first frame."""
        return self.lstm.initial(batch)

    def advance(
        self,
        state: LSTMState,
        latent: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch action"],
    ) -> LSTMState:
        """The next state alone: all an agent in the real env needs of M."""
        return self.lstm.step(torch.cat([latent, action], -1), state)

    def step(
        self,
        state: LSTMState,
        latent: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch action"],
    ) -> tuple[LSTMState, MixturePrediction]:
        """One agent step: the next state and what it predicts."""
        state = self.advance(state, latent, action)
        return state, self.predict(state.h, latent)

    def sequence(
        self,
        state: LSTMState,
        latents: Float[Tensor, "batch length latent"],
        actions: Float[Tensor, "batch length action"],
    ) -> tuple[Float[Tensor, "batch length hidden"], LSTMState]:
        """States h after each agent step of whole sequences; equals stepping."""
        return self.lstm.sequence(torch.cat([latents, actions], -1), state)

    def predict(
        self, hidden: Float[Tensor, "*batch hidden"], latent: Float[Tensor, "*batch latent"]
    ) -> MixturePrediction:
        """Read a prediction off the state after an agent step taken at `latent`."""
        shape = (*hidden.shape[:-1], 3, self.config.num_latents, self.config.num_mixtures)
        log_pi, mu, log_sigma = self.mixture(hidden).view(shape).unbind(-3)
        if self.config.predict_change:
            mu = mu + latent[..., None]
        return MixturePrediction(
            log_pi - log_sum_exp(log_pi)[..., None],  # log_softmax over so few takes 6x as long
            mu,
            log_sigma.clamp(*LOG_SIGMA_RANGE),
            self.outcome(hidden),
        )

    def training_floats(self) -> int:
        """Numbers that `loss` and its gradient hold for one agent step, at most.

        Measured: 28 kB at 256 units and 32 latents of 5 Gaussians, most of it for the gates, the
        states and the gradients of the LSTM.
        """
        return 24 * self.config.num_hidden + 3 * self.mixture.out_features

    def loss(
        self, batch: SequenceBatch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood of the next latent + reward and end, mean over agent steps.

        Latents are drawn anew from V's posterior in every call (arXiv 1803.10122, A.2).
        """
        mu, logvar = batch.posteriors.chunk(2, dim=-1)
        noise = torch.randn(mu.shape, generator=generator, device=mu.device)
        z = mu + (0.5 * logvar).exp() * noise
        hidden, _ = self.sequence(self.initial(len(batch)), z[:, :-1], batch.actions)
        prediction = self.predict(hidden[batch.mask], z[:, :-1][batch.mask])
        nll = -prediction.log_prob(z[:, 1:][batch.mask]).mean()
        return self.outcome.add_to(
            nll,
            prediction.outcome,
            batch.rewards[batch.mask],
            batch.terminated[batch.mask],
            reward_weight=self.config.reward_weight,
            end_weight=self.config.end_weight,
        )
