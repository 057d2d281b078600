"""V with categorical latents: the posterior is a distribution over codes.

A frame is encoded as a grid of codes. Every cell of the grid has a categorical posterior over the K
values of the cell's code. A VQ-VAE rounds to codes, but this V samples codes from the posterior.
This V is trained to maximize the ELBO. Samples are not differentiable, so one of two estimators
computes the encoder's gradient. The estimator `score` is the black-box gradient of
`worldmodels.bbvi`, which is unbiased and has a high variance. The estimator `straight-through`
computes the gradient as if each one-hot sample were the vector of probabilities (arXiv 1308.3432).
The gradient of `straight-through` is biased and has a low variance.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from worldmodels.bbvi.score import score_surrogate
from worldmodels.data.batches import FrameBatch
from worldmodels.errors import UserError, check_choice
from worldmodels.training.model import LossAndMetrics
from worldmodels.vision.networks import CellNorm, Frames, to_unit
from worldmodels.vision.pixel_error import unpacked
from worldmodels.vision.vqvae import VQVAE, VQVAEConfig

ESTIMATORS = ("score", "straight-through")
LOGIT_SPREAD = 8.0


@dataclass(frozen=True)
class CategoricalVAEConfig(VQVAEConfig):
    """Settings of V with categorical latents, in addition to those of `VQVAEConfig`.

    By default a code has only 32 values. Training can change the code vector of a value only after
    this value is sampled. With both estimators, a larger fraction of 32 values than of 256 values
    was therefore used after training.

    Attributes:
        estimator: estimator of the encoder's gradient, "score" or "straight-through".
        num_samples: number of samples of each frame's codes. "score" needs at least two samples,
            because the baseline of a sample is computed from the other samples of the same frame.
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
    """A V that encodes a frame as N codes, each of which has a categorical distribution.

    After training, the model is used like a VQ-VAE. The codes of a frame are then the likeliest
    codes.
    """

    kind = "categorical-vae"
    config: CategoricalVAEConfig

    def _add_quantizer(self, config: VQVAEConfig) -> None:
        # With torch's initial weights the logits are nearly equal for all frames: samples do not
        # depend on the frame, and the decoder permanently learns to ignore them. With spread-out
        # logits the error after one epoch of CarRacing (score) was 31; the mean frame's was 137.
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
        """Return the likeliest codes of each frame, row by row of the grid."""
        return self._logits(frames).argmax(-1)

    def loss(
        self, batch: FrameBatch | Frames, generator: Generator | None = None
    ) -> LossAndMetrics:
        """Return the negative ELBO: the squared error plus the KL to the uniform distribution.

        The KL is computed exactly and multiplied by `kl_weight`. The squared error is a mean over
        samples. The gradient of the squared error reaches the decoder and the code vectors
        directly. The gradient reaches the encoder through the estimator.

        Source: arXiv 1401.0118, equation 2, with the leave-one-out baseline of Kool et al. (2019).
        """
        config = self.config
        frames, still = unpacked(batch)
        log_q = self._logits(frames).log_softmax(-1)
        codes = self._draw_codes(log_q, generator)
        repeats = (config.num_samples, 1, 1, 1)
        images = to_unit(frames).repeat(repeats)
        still = still if still is None else still.repeat(repeats)
        one_hot = F.one_hot(codes, config.num_values).to(log_q.dtype)
        if config.estimator == "straight-through":
            one_hot = one_hot + log_q.exp() - log_q.exp().detach()
        decoded = self._draw((one_hot @ self.code_vectors).flatten(0, 1))
        error, plain_error = self.pixel_error(decoded, images, still)
        error = error.unflatten(0, (config.num_samples, -1))
        kl = (log_q.exp() * (log_q + math.log(config.num_values))).sum((1, 2)).mean()
        loss = error.mean() + config.kl_weight * kl
        if config.estimator == "score":
            of_draw = (F.one_hot(codes, config.num_values) * log_q).sum((2, 3))
            surrogate = score_surrogate(of_draw, error) / len(frames)
            loss = loss + surrogate - surrogate.detach()  # adds its gradient, not its value
        return loss, {"error": plain_error.mean(), "kl": kl}

    def _logits(self, frames: Frames) -> Float[Tensor, "batch code value"]:
        return cast(Tensor, self.encoder(to_unit(frames)).flatten(2).transpose(1, 2))

    def _draw_codes(
        self, log_q: Float[Tensor, "batch code value"], generator: Generator | None
    ) -> Int[Tensor, "sample batch code"]:
        chances = log_q.detach().exp().flatten(0, 1)
        draws = torch.multinomial(chances, self.config.num_samples, True, generator=generator)
        return cast(Tensor, draws.T.unflatten(1, log_q.shape[:2]))
