"""Evaluate the binary VAE: compare its ELBO with baselines, and score its latents and its q."""

import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodels.bbvi.diagnostics import GOOD_PARETO_K, pareto_k_of_weights
from worldmodels.bbvi.examples.binary_vae import (
    NUM_CLUSTERS,
    BinaryVAE,
    BinaryVAEConfig,
    Latents,
    Pixels,
    Points,
    draw_points,
    train_binary_vae,
)
from worldmodels.bbvi.examples.experiments import Fit, FittingPlan

NUM_TRAINING, NUM_HELD_OUT = 4000, 1000
NUM_EVALUATED = 100  # held-out points whose q is evaluated, each by `NUM_WEIGHTS` weights
NUM_WEIGHTS = 2000
PerPoint = Float[Tensor, "point"]


@dataclass(frozen=True)
class BinaryVAEFit:
    """The trained model and its scores on held-out points; log-likelihoods are in nats per point.

    Attributes:
        fit: the fit of the VAE, where `kl` is the mean over points and `pareto_k` is the median
            over points.
        history: the ELBO of each training step's batch.
        elbo: the ELBO of the held-out points, which is a lower bound of their log-likelihood.
        independent_pixels: log-likelihood under a model with independent pixels.
        pixels_of_cluster: log-likelihood under a model that is given the Gaussian of each point and
            has independent pixels.
        accuracy: fraction of points that are nearest to the mean of their own cluster.
        fraction_above: fraction of points whose k-hat is above 0.7.
    """

    fit: Fit
    vae: BinaryVAE
    held_out: Points
    history: Float[Tensor, "step"]
    elbo: float
    independent_pixels: float
    pixels_of_cluster: float
    accuracy: float
    fraction_above: float


def fit_binary_vae(plan: FittingPlan) -> BinaryVAEFit:
    """Train a VAE on points of the three Gaussians, and evaluate the VAE on held-out points."""
    generator = plan.generator()
    training, held_out = (draw_points(n, generator) for n in (NUM_TRAINING, NUM_HELD_OUT))
    started = time.monotonic()
    vae, history = train_binary_vae(training.pixels, plan.steps(BinaryVAEConfig(seed=plan.seed)))
    seconds = time.monotonic() - started
    kl, pareto_k = evaluate_points(vae, held_out.pixels[:NUM_EVALUATED], generator)
    names = "binary-vae", "encoder", "pathwise", "adam"
    fit = Fit(*names, kl.mean().item(), pareto_k.median().item(), seconds)
    plan.on_fit(fit)
    return BinaryVAEFit(
        fit,
        vae,
        held_out,
        history,
        elbo=vae.elbo(held_out.pixels, 20, generator),
        independent_pixels=independent_pixels(training.pixels, held_out.pixels),
        pixels_of_cluster=pixels_of_cluster(training, held_out),
        accuracy=nearest_mean_accuracy(
            *(vae.means(training.pixels), training.cluster),
            *(vae.means(held_out.pixels), held_out.cluster),
        ),
        fraction_above=float((pareto_k > GOOD_PARETO_K).float().mean()),
    )


@torch.no_grad()
def evaluate_points(
    vae: BinaryVAE, pixels: Pixels, generator: torch.Generator
) -> tuple[PerPoint, PerPoint]:
    """Return each point's KL(q, posterior) in nats, and each point's k-hat.

    The KL needs the log evidence of each point, which is estimated from the importance weights. If
    the k-hat of a point is high, this estimate is too low, and so is the KL.
    """
    kls, pareto_ks = [], []
    for one in pixels.split(1):
        log_weights = vae.log_weights(one, NUM_WEIGHTS, generator)
        log_p = log_weights.logsumexp(0) - math.log(NUM_WEIGHTS)
        kls.append(float(log_p - log_weights.mean()))
        pareto_ks.append(pareto_k_of_weights(log_weights))
    return torch.tensor(kls), torch.tensor(pareto_ks)


def nearest_mean_accuracy(
    training: Latents,
    training_cluster: Int[Tensor, "point"],
    held_out: Float[Tensor, "other latent"],
    held_out_cluster: Int[Tensor, "other"],
) -> float:
    """Return the fraction of held-out points that lie nearest to the mean of their own cluster.

    A cluster mean is the mean of the latents of the cluster's training points.
    """
    means = [training[training_cluster == number].mean(0) for number in range(NUM_CLUSTERS)]
    nearest = torch.cdist(held_out, torch.stack(means)).argmin(1)
    return float((nearest == held_out_cluster).float().mean())


def independent_pixels(training: Pixels, held_out: Float[Tensor, "other pixel"]) -> float:
    """Return the log-likelihood of the held-out points, in nats per point.

    In the model, pixels are independent, and each pixel is 1 as often as in the training points.
    """
    return float(_bernoulli(training, held_out).mean())


def pixels_of_cluster(training: Points, held_out: Points) -> float:
    """Return the log-likelihood of the held-out points, in nats per point, given their clusters.

    The log-likelihood is that of `independent_pixels`, but with separate frequencies for each
    cluster. A VAE is not given the clusters and has to infer them.
    """
    total = 0.0
    for number in range(NUM_CLUSTERS):
        inside = held_out.pixels[held_out.cluster == number]
        total += float(_bernoulli(training.pixels[training.cluster == number], inside).sum())
    return total / len(held_out.pixels)


def _bernoulli(training: Pixels, held_out: Float[Tensor, "other pixel"]) -> Float[Tensor, "other"]:
    chance = (training.sum(0) + 1) / (len(training) + 2)  # Laplace smoothing avoids zeros
    return (held_out * chance.log() + (1 - held_out) * (-chance).log1p()).sum(1)
