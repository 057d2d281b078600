"""V with categorical latents: its posterior is a distribution over codes, trained by its ELBO.

Where a VQ-VAE rounds, this V draws: every cell of the grid has a categorical posterior over the
K values of its code. A draw has no derivative, so the encoder learns by one of two estimators:
`score`, the black-box gradient of `worldmodels.bbvi`, unbiased and noisy; or
`straight-through`, which passes the gradient as if the draw were its probabilities, biased and
calm (arXiv 1308.3432).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from worldmodels.bbvi.score import score_surrogate
from worldmodels.errors import UserError, check_choice
from worldmodels.training.model import LossAndMetrics
from worldmodels.vision.networks import Frames, to_unit
from worldmodels.vision.pixel_error import training_error
from worldmodels.vision.vqvae import VQVAE, CellNorm, VQVAEConfig

ESTIMATORS = ("score", "straight-through")
LOGIT_SPREAD = 8.0


@dataclass(frozen=True)
class CategoricalVAEConfig(VQVAEConfig):
    """Settings of V with categorical latents; see VQVAEConfig for the rest.

    Both estimators fill a code of 32 values better than one of 256: each value has to be drawn
    before anything is learned of it.

    Attributes:
        estimator: of the encoder's gradient, "score" or "straight-through".
        num_samples: draws of a frame's codes; "score" needs two, each the other's baseline.
        kl_weight: weight of the KL to the uniform distribution over codes.
    """

    QUANTIZERS: ClassVar[tuple[str, ...]] = ("categorical",)

    quantizer: str = "categorical"
    codebook_size: int = 32
    estimator: str = "score"
    num_samples: int = 4
    kl_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("estimator", self.estimator, ESTIMATORS)
        fewest = 2 if self.estimator == "score" else 1
        if self.num_samples < fewest:
            what = f"at least {fewest} for {self.estimator}"
            raise UserError(f"num_samples must be {what}, got {self.num_samples}")


class CategoricalVAE(VQVAE):
    """Frames <-> N codes, each drawn from a categorical distribution of its own.

    Used after training, it is a VQ-VAE: the codes of a frame are the likeliest ones.
    """

    kind = "categorical-vae"
    config: CategoricalVAEConfig

    def _add_quantizer(self, config: VQVAEConfig) -> None:
        # As torch makes them, logits are alike for all frames: draws do not depend on the
        # frame, and the decoder learns to ignore them for good. Spread out, the error was 31 after
        # one epoch of CarRacing (score) against the mean frame's 137.
        self.encoder[-1] = CellNorm(config.num_codes * config.channels)
        to_logits = nn.Conv2d(config.channels, config.num_values, 1)
        nn.init.normal_(to_logits.weight, std=LOGIT_SPREAD / config.channels**0.5)
        self.encoder.append(to_logits)
        self.table = nn.Embedding(config.num_values, config.vector_size)

    @property
    def code_vectors(self) -> Float[Tensor, "value vector"]:
        """The vector that each of the K values of a code stands for."""
        return self.table.weight

    def encode(self, frames: Frames) -> Int[Tensor, "batch code"]:
        """The likeliest codes of each frame, row by row of the grid."""
        return self._logits(frames).argmax(-1)

    def loss(self, frames: Frames, generator: Generator | None = None) -> LossAndMetrics:
        """Negative evidence lower bound: squared error + KL to the uniform distribution.

        The KL is exact. The error is a mean over draws; its gradient reaches the decoder and the
        code vectors directly, the encoder by the estimator.

        Source: arXiv 1401.0118, equation 2, with Kool et al. (2019)'s leave-one-out baseline.
        """
        config = self.config
        log_q = self._logits(frames).log_softmax(-1)
        codes = self._draw_codes(log_q, generator)
        images = to_unit(frames).repeat(config.num_samples, 1, 1, 1)
        one_hot = F.one_hot(codes, config.num_values).to(log_q.dtype)
        if config.estimator == "straight-through":
            one_hot = one_hot + log_q.exp() - log_q.exp().detach()
        decoded = self._draw((one_hot @ self.code_vectors).flatten(0, 1))
        error, plain_error = training_error(decoded, images, config)
        error = error.unflatten(0, (config.num_samples, -1))
        kl = (log_q.exp() * (log_q + math.log(config.num_values))).sum((1, 2)).mean()
        loss = error.mean() + config.kl_weight * kl
        if config.estimator == "score":
            of_draw = (F.one_hot(codes, config.num_values) * log_q).sum((2, 3))
            surrogate = score_surrogate(of_draw, error) / len(frames)
            loss = loss + surrogate - surrogate.detach()  # its gradient, not its value
        return loss, {"error": plain_error.mean(), "kl": kl}

    def _logits(self, frames: Frames) -> Float[Tensor, "batch code value"]:
        return cast(Tensor, self.encoder(to_unit(frames)).flatten(2).transpose(1, 2))

    def _draw_codes(
        self, log_q: Float[Tensor, "batch code value"], generator: Generator | None
    ) -> Int[Tensor, "sample batch code"]:
        chances = log_q.detach().exp().flatten(0, 1)
        draws = torch.multinomial(chances, self.config.num_samples, True, generator=generator)
        return cast(Tensor, draws.T.unflatten(1, log_q.shape[:2]))
