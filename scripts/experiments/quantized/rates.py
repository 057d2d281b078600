"""Bits per frame of codes and of latents, without context and given earlier frames.

Nats of latents and nats of codes cannot be compared, because latents have a density and codes have
a probability. But one can compare the numbers of bits that a receiver with the same models needs.
For codes, this number of bits is -log2 p(codes). For a latent z that is sampled from the posterior
q, this number of bits is log2 q(z) - log2 p(z), because the choice of the sample can carry other
bits ("bits back").

Source: Hinton & van Camp 1993, https://doi.org/10.1145/168304.168306; arXiv 1901.04866.
"""

import math

from worldmodels.data.sequences import SequenceBatch
from worldmodels.vision import VQVAE, Vision


def rates(
    vision: Vision, episodes: SequenceBatch, *, persistence_nll: float, nll: float
) -> dict[str, float]:
    """Compute bits per frame from the nats per agent step that `score_memory` returns.

    For a VAE, these nats must be of latents that were sampled from V's posterior.

    Returns:
        alone: bits without context. All codes need equally many bits. Latents need as many bits as
            the KL divergence from V's prior.
        persistence: bits given the previous frame, according to the baseline in `memory.baselines`.
        memory: bits given all previous frames and actions, according to M.
    """
    if isinstance(vision, VQVAE):
        alone = vision.config.num_codes * math.log(vision.config.num_values)
        latent_nats = 0.0
    else:
        mu, logvar = episodes.posteriors[:, 1:][episodes.mask].double().chunk(2, dim=-1)
        alone = float(0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(-1).mean())
        latent_nats = float(0.5 * (logvar + math.log(2.0 * math.pi * math.e)).sum(-1).mean())
    given = {"persistence": persistence_nll - latent_nats, "memory": nll - latent_nats}
    return {name: nats / math.log(2.0) for name, nats in {"alone": alone, **given}.items()}
