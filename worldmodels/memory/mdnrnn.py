"""M over continuous latents: an LSTM with a mixture density output (MDN-RNN)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.data.sequences import PART_STEPS, Sequences
from worldmodels.errors import check_at_least
from worldmodels.memory.codes import log_sum_exp
from worldmodels.memory.lstm import Hidden
from worldmodels.memory.mixture_prediction import MixturePrediction
from worldmodels.memory.outcome import OutcomeHead
from worldmodels.memory.protocol import MemorySettings
from worldmodels.memory.recurrent import RecurrentMemory
from worldmodels.vision.vae import sample_gaussian

LOG_SIGMA_RANGE = (-7.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class MDNRNNSettings(MemorySettings):
    """The settings of the MDN-RNN that do not depend on V.

    Attributes:
        predict_change: whether the means of the Gaussians are offsets from the present latent. In
            the paper, the means predict the next latent itself.
    """

    predict_change: bool = False


@dataclass(frozen=True)
class MDNRNNConfig(MDNRNNSettings):
    """All settings of the MDN-RNN.

    Attributes:
        num_latents, num_actions: the number Z of latents, and the length A of an encoded action.
    """

    num_latents: int
    num_actions: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "num_latents", "num_actions")


class MDNRNN(RecurrentMemory):
    """An M that maps latent, action and state to the next state and a mixture over next latents."""

    kind = "mdnrnn"
    config: MDNRNNConfig

    def __init__(self, config: MDNRNNConfig) -> None:
        super().__init__(config, config.num_latents + config.num_actions, config.num_actions)
        self.mixture = nn.Linear(config.num_hidden, 3 * config.num_latents * config.num_mixtures)
        self.outcome = OutcomeHead(config.num_hidden)

    def _calibrate_head(self, sequences: Sequences) -> None:
        """Initialize the head at the persistence baseline, if `predict_change` is set.

        The weights of the output layer start near zero, and sigma starts near the standard
        deviation of the change of the latents. Training therefore begins near the persistence
        baseline and does not have to learn persistence. The standard deviation is that of latents
        sampled from V's posterior, because `loss` also samples the latents. In a dimension that V
        does not use, the mean of the posterior hardly changes. If sigma were computed from the
        means alone, the first loss would be thousands of nats.

        The initialization takes one pass over all data, part by part.
        """
        if not self.config.predict_change:
            return
        total, count = torch.zeros(self.config.num_latents, dtype=torch.float64), 0
        for part in sequences.parts(PART_STEPS):
            mu, logvar = part.posteriors.chunk(2, dim=-1)
            change = (mu[:, 1:] - mu[:, :-1])[part.mask]
            drawn = (logvar[:, 1:].exp() + logvar[:, :-1].exp())[part.mask]
            total += (change.square() + drawn).sum(0)
            count += len(change)
        spread = (total.float() / count).sqrt()
        self.mixture.weight.mul_(0.1)
        bias = self.mixture.bias.view(3, self.config.num_latents, -1)
        bias.zero_()
        bias[2] = spread.clamp(min=1e-2).log()[:, None]
        # The Gaussians have different widths, so that they do not all learn the same.
        bias[2] += torch.linspace(-1, 1, self.config.num_mixtures + 2)[1:-1]

    def predict(self, hidden: Hidden, latent: Float[Tensor, "*batch latent"]) -> MixturePrediction:
        """Predict the result of an agent step.

        Args:
            hidden: M's h after the agent step.
            latent: the latent before the agent step.
        """
        shape = (*hidden.shape[:-1], 3, self.config.num_latents, self.config.num_mixtures)
        log_pi, mu, log_sigma = self.mixture(hidden).view(shape).unbind(-3)
        if self.config.predict_change:
            mu = mu + latent[..., None]
        return MixturePrediction(
            log_pi - log_sum_exp(log_pi)[..., None],  # log_softmax takes 6 times as long
            mu,
            log_sigma.clamp(*LOG_SIGMA_RANGE),
            self.outcome(hidden),
        )

    def training_floats(self) -> int:
        """Return the largest number of floats per agent step that `loss` and its gradient need.

        With 256 units, 32 latents and 5 Gaussians per latent, the floats take 28 kB (measured). The
        gates, the states and the gradients of the LSTM take most of this memory.
        """
        return 24 * self.config.num_hidden + 3 * self.mixture.out_features

    def _sample(self, posteriors: Tensor, generator: torch.Generator | None) -> Tensor:
        return sample_gaussian(posteriors, generator)

    def _embed(self, latents: Tensor) -> Tensor:
        return latents
