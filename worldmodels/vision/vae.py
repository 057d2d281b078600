"""V with a continuous latent: the variational autoencoder."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodels.data.batches import FrameBatch
from worldmodels.errors import check_at_least, check_choice
from worldmodels.training.model import LossAndMetrics
from worldmodels.vision.networks import (
    Frames,
    ImageNorm,
    LeanDecoder,
    LeanEncoder,
    PaperDecoder,
    PaperEncoder,
    to_frames,
    to_unit,
)
from worldmodels.vision.pixel_error import ErrorConfig, PixelError, unpacked

Posterior = Float[Tensor, "*batch two_z"]


@dataclass(frozen=True)
class VAEConfig(ErrorConfig):
    """Settings of the VAE; the defaults are the paper's (arXiv 1803.10122, A.1).

    Attributes:
        network: "paper" (4,348,547 parameters at 32 latents) or "lean".
        channels: width of the lean network.
        decoder_channels: width of the lean decoder. With a KL weight of 1, training with 32
            channels is 1.3 times as fast as with 64 channels. The error after five epochs of
            CarRacing is nearly the same (27.6 and 27.7).
        normalize: whether images are normalized before the lean encoder; see `ImageNorm`.
        kl_weight: beta, the weight of the KL term.
        free_nats: floor of the KL, in nats per dimension; below the floor the KL has no gradient.
    """

    num_latents: int = 32
    network: str = "paper"
    channels: int = 64
    decoder_channels: int = 32
    normalize: bool = False
    kl_weight: float = 1.0
    free_nats: float = 0.5

    def __post_init__(self) -> None:
        check_choice("network", self.network, ("paper", "lean"))
        check_at_least(1, self, "num_latents")


class VAE(nn.Module):
    """A V that encodes a frame as a Gaussian over Z latents.

    The posterior consists of the mean and the log-variance of this Gaussian, float (B, 2 Z). A
    latent is a vector z, float (B, Z), and the features of a latent are z itself.
    """

    kind = "vae"
    discrete = False
    posterior_type = np.dtype(np.float32)

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = z = config.num_latents
        self.posterior_size = 2 * z
        self.pixel_error = PixelError(config)
        if config.network == "paper":
            self.encoder: nn.Module = PaperEncoder()
            cells = PaperEncoder.num_features
            self.from_latent: nn.Module = nn.Identity()
            self.decoder: nn.Module = PaperDecoder(z)
        else:
            cells = 16 * config.channels
            norm = [ImageNorm()] if config.normalize else []
            self.encoder = nn.Sequential(*norm, LeanEncoder(config.channels), nn.Flatten())
            self.from_latent = nn.Sequential(
                nn.Linear(z, cells), nn.Unflatten(1, (config.channels, 4, 4)), nn.ReLU()
            )
            self.decoder = LeanDecoder(config.channels, config.decoder_channels)
        self.to_mean, self.to_logvar = nn.Linear(cells, z), nn.Linear(cells, z)

    @torch.no_grad()
    def init_from_data(self, frames: Frames) -> None:
        """Fit the initial weights of the lean network to the data.

        The paper's network keeps torch's initial weights.

        The output of the lean network starts near the mean frame. If `config.normalize` is set, the
        posteriors are scaled (see `_init_posterior`).

        With a KL weight of 1 or more, the latents are initialized too. The means of the posteriors
        then start with a standard deviation of 1 over the frames, and each posterior starts with a
        standard deviation somewhat below 1. Without `init_from_data`, the lean VAE decoded only the
        mean frame for 400 steps. With `init_from_data`, the error after 300 steps is a quarter of
        the error of the mean frame.

        With a KL weight below 1, this initialization of the latents is left out, because it does
        harm. Initialized latents all remain equally in use. With torch's initial weights, a few
        latents carry most of the information. In the demo, a linear C over initialized latents
        scored 145. With torch's initial weights in the encoder, a linear C scored 289 and 352 if
        the decoder's initial outputs were scaled down. In four runs without this scaling, a linear
        C scored 372 to 754.
        """
        if not isinstance(self.decoder, LeanDecoder):
            return
        images = to_unit(frames)
        if self.config.normalize:
            cast(ImageNorm, cast(nn.Sequential, self.encoder)[0]).fit(images)
            self._init_posterior(self.encoder(images))
        if self.config.kl_weight < 1.0:
            self.decoder.init_from_data(images)
            return
        hidden = self.encoder(images)
        std, mean = torch.std_mean(self.to_mean(hidden), 0)
        std = torch.where(std > 1e-6, std, 1.0)  # a mean is constant, or there is one frame
        self.to_mean.weight.div_(std[:, None])
        self.to_mean.bias.sub_(mean).div_(std)
        self.to_logvar.weight.mul_(0.01)
        nn.init.constant_(self.to_logvar.bias, -1.0)
        latent = self.sample(self.encode(frames))
        self.decoder.init_from_data(images, self.from_latent(latent))

    def _init_posterior(self, hidden: Float[Tensor, "frame number"]) -> None:
        """Scale the posteriors so that latents differ between frames and the KL term starts small.

        Each mean gets a standard deviation of at most 0.5 over the frames. The noise of each latent
        gets a smaller standard deviation than the mean of this latent.
        """
        mean = self.to_mean(hidden)
        spread = mean.std(0, correction=0).clamp(min=1e-6)
        scale = 0.5 / spread.max()
        self.to_mean.bias.sub_(mean.mean(0)).mul_(scale)
        self.to_mean.weight.mul_(scale)
        self.to_logvar.weight.mul_(0.01)
        self.to_logvar.bias.copy_(2.0 * (spread * scale).log() - 2.0)

    def calibrate(self, frames: Frames) -> None:
        """Do nothing, because a VAE has no statistics that lag behind its weights."""

    def encode(self, frames: Frames) -> Float[Tensor, "batch two_z"]:
        """Return the mean and the log-variance of each frame's latent."""
        return self._posterior(to_unit(frames))

    def sample(
        self, posterior: Posterior, generator: Generator | None = None
    ) -> Float[Tensor, "*batch z"]:
        """Sample a latent from each posterior."""
        return sample_gaussian(posterior, generator)

    def mode(self, posterior: Posterior) -> Float[Tensor, "*batch z"]:
        """Return the likeliest latent, which is the posterior's mean."""
        return posterior.chunk(2, dim=-1)[0]

    def features(self, latent: Float[Tensor, "*batch z"]) -> Float[Tensor, "*batch z"]:
        """Return the features that C and M receive, which are the latent itself."""
        return latent

    def feature_bounds(self) -> None:
        """Return None, because the numbers of a latent are unbounded."""

    def decode(self, latent: Float[Tensor, "batch z"]) -> Frames:
        """Return the frames that latents stand for."""
        return to_frames(self.decoder(self.from_latent(latent)))

    def loss(
        self, batch: FrameBatch | Frames, generator: Generator | None = None
    ) -> LossAndMetrics:
        """Return the negative evidence lower bound, in the paper's form.

        The loss is the squared error summed over pixels, plus the KL to the standard normal. The KL
        of each frame is clamped to at least `free_nats` times the number of latents.
        Source: arXiv 1803.10122, A.1; the floor of the KL is in the authors' code.
        Differs: the error and the KL have weights, which are 1 by default.
        """
        frames, still = unpacked(batch)
        images = to_unit(frames)
        posterior = self._posterior(images)
        mu, logvar = posterior.chunk(2, dim=-1)
        decoded = self.decoder(self.from_latent(self.sample(posterior, generator)))
        error, plain_error = self.pixel_error(decoded, images, still)
        kl = 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(1)
        floored = kl.clamp(min=self.config.free_nats * self.config.num_latents).mean()
        metrics = {"error": plain_error.mean(), "kl": kl.mean()}
        return error.mean() + self.config.kl_weight * floored, metrics

    def _posterior(self, images: Float[Tensor, "batch 3 64 64"]) -> Float[Tensor, "batch two_z"]:
        hidden = self.encoder(images)
        return torch.cat([self.to_mean(hidden), self.to_logvar(hidden)], dim=-1)


def sample_gaussian(posterior: Posterior, generator: Generator | None) -> Float[Tensor, "*batch z"]:
    """Sample from a Gaussian, whose mean and log-variance are concatenated in `posterior`."""
    mu, logvar = posterior.chunk(2, dim=-1)
    noise = torch.randn(mu.shape, generator=generator, device=mu.device)
    return mu + (0.5 * logvar).exp() * noise
