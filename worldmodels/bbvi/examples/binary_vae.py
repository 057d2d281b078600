"""An example of amortised inference: a variational autoencoder of binary pixels.

Each point is drawn from one of three Gaussians in the plane, and the model observes only 100 binary
pixels of the point. Each pixel has a random projection, which maps the point to an angle. The pixel
is 1 if the cosine of this angle is positive. The model observes neither the plane nor the
Gaussians, but its two latents should recover both.

A separate family for each point would mean thousands of families. Instead, an encoder network
computes the parameters of q from the pixels. `elbo_surrogate` treats a batch of B points as one q
with 2 B latents. The gradient flows through the samples of this q into the encoder and the decoder.

>>> import torch
>>> points = draw_points(200, torch.Generator().manual_seed(0))
>>> vae, history = train_binary_vae(points.pixels, BinaryVAEConfig(num_steps=50))
>>> vae.encoder(points.pixels).shape  # means and log-scales of two latents
torch.Size([200, 4])

Source: Kingma & Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from worldmodels.bbvi.examples.models import log_normal
from worldmodels.bbvi.families import OfFactors, Samples, VariationalFamily
from worldmodels.bbvi.fit import Estimator, elbo_surrogate
from worldmodels.bbvi.joint import LogJoint, log_weights
from worldmodels.errors import check_above_zero, check_at_least
from worldmodels.training.seeding import global_seed

NUM_CLUSTERS = 3
NUM_PIXELS = 100
Pixels = Float[Tensor, "point pixel"]
Latents = Float[Tensor, "point latent"]
WORLD_SEED = 1401  # seed of the projections, which are the same for training and held-out points


@dataclass(frozen=True)
class Points:
    """The pixels of points, which are 0.0 or 1.0, and the index of each point's Gaussian.

    The model observes only the pixels.
    """

    pixels: Pixels
    cluster: Int[Tensor, "point"]


def draw_points(num_points: int, generator: Generator) -> Points:
    """Draw points from three Gaussians, and return the points' pixels.

    The means of the Gaussians lie on a circle of radius 2; the standard deviations are 0.5.
    """
    cluster = torch.randint(NUM_CLUSTERS, (num_points,), generator=generator)
    angle = cluster * (2 * math.pi / NUM_CLUSTERS)
    centre = 2.0 * torch.stack([angle.cos(), angle.sin()], 1)
    place = centre + 0.5 * torch.randn(num_points, 2, generator=generator)
    world = Generator().manual_seed(WORLD_SEED)
    direction = torch.randn(2, NUM_PIXELS, generator=world)
    phase = 2 * math.pi * torch.rand(NUM_PIXELS, generator=world)
    return Points(((place @ direction + phase).cos() > 0).float(), cluster)


@dataclass(frozen=True)
class BinaryVAEConfig:
    """Settings of the model and of its training.

    Attributes:
        num_samples: number of samples of q for each point of a batch.
        learning_rate: Adam's learning rate in the first step; a cosine schedule lowers it to 0.
    """

    num_latents: int = 2
    num_hidden: int = 128
    num_steps: int = 2000
    batch_size: int = 128
    num_samples: int = 1
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = ("num_latents", "num_hidden", "num_steps", "batch_size", "num_samples")
        check_at_least(1, self, *sizes)
        check_above_zero(self, "learning_rate")


class EncodedGaussian(VariationalFamily):
    """Independent normal distributions of the concatenated latents of a batch of points.

    `mean` and `log_scale` are outputs of the encoder, which holds the trainable parameters.
    """

    def __init__(self, mean: Latents, log_scale: Latents) -> None:
        super().__init__(mean.numel())
        self.mean, self.log_scale = mean.flatten(), log_scale.flatten()

    def rsample(self, num_samples: int, generator: Generator) -> Samples:
        """Return mean + scale * noise, where the noise is standard normal."""
        noise = torch.randn(num_samples, self.num_latents, generator=generator)
        return self.mean + self.log_scale.exp() * noise

    def log_prob(self, z: Samples) -> OfFactors:
        """Return the log-density of each latent of each point, in nats."""
        return log_normal(((z - self.mean) * (-self.log_scale).exp()).square()) - self.log_scale


class BinaryVAE(nn.Module):
    """A VAE with z ~ N(0, I) and pixels ~ Bernoulli(sigmoid(decoder(z))); the encoder gives q."""

    def __init__(self, config: BinaryVAEConfig) -> None:
        super().__init__()
        self.num_latents = config.num_latents
        self.encoder = _network(NUM_PIXELS, config.num_hidden, 2 * config.num_latents)
        self.decoder = _network(config.num_latents, config.num_hidden, NUM_PIXELS)

    def posterior(self, pixels: Pixels) -> EncodedGaussian:
        """Return q over the latents of all points."""
        return EncodedGaussian(*self.encoder(pixels).chunk(2, dim=1))

    def log_joint(self, pixels: Pixels) -> LogJoint:
        """Return the function that maps z to log p(pixels, z) of all points together, in nats."""

        def log_joint(z: Samples) -> Float[Tensor, "sample"]:
            of_point = z.unflatten(1, (len(pixels), self.num_latents))
            logits = self.decoder(of_point)
            likelihood = pixels * logits - functional.softplus(logits)
            return cast(Tensor, log_normal(of_point.square()).sum((1, 2)) + likelihood.sum((1, 2)))

        return log_joint

    @torch.no_grad()
    def elbo(self, pixels: Pixels, num_samples: int, generator: Generator) -> float:
        """Return the ELBO in nats per point, estimated from samples of q."""
        return float(self.log_weights(pixels, num_samples, generator).mean()) / len(pixels)

    def log_weights(
        self, pixels: Pixels, num_samples: int, generator: Generator
    ) -> Float[Tensor, "sample"]:
        """Return log p(pixels, z) - log q(z) of all points together, for each sample z of q."""
        family = self.posterior(pixels)
        z = family.rsample(num_samples, generator)
        return log_weights(self.log_joint(pixels), family, z)

    @torch.no_grad()
    def means(self, pixels: Pixels) -> Latents:
        """Return the mean of q for each point."""
        return cast(Tensor, self.encoder(pixels).chunk(2, dim=1)[0])


def train_binary_vae(
    pixels: Pixels, config: BinaryVAEConfig
) -> tuple[BinaryVAE, Float[Tensor, "step"]]:
    """Fit a VAE to the pixels; return the VAE and each batch's ELBO in nats per point."""
    generator = Generator().manual_seed(config.seed)
    pathwise = Estimator("pathwise", "none")
    with global_seed(config.seed):  # initial weights draw from the global generator
        vae = BinaryVAE(config)
    optimizer = torch.optim.Adam(vae.parameters(), lr=config.learning_rate, maximize=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.num_steps)
    history = []
    for _ in range(config.num_steps):
        batch = pixels[torch.randint(len(pixels), (config.batch_size,), generator=generator)]
        joint, family = vae.log_joint(batch), vae.posterior(batch)
        surrogate, difference = elbo_surrogate(
            joint, family, pathwise, config.num_samples, generator
        )
        optimizer.zero_grad(set_to_none=True)
        (surrogate / len(batch)).backward()
        optimizer.step()
        schedule.step()
        history.append(float(difference.mean()) / len(batch))
    return vae, torch.tensor(history)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, outputs),
    )
