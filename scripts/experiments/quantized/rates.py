"""Bits per frame of codes and of latents: alone, after the last frame, and given M's state.

Nats of latents (a density) and of codes (a probability) do not compare. What does compare is the
number of bits that a receiver with the same models needs: of codes -log2 p(codes); of a latent
sampled from the posterior q, log2 q(z) - log2 p(z), as the sample itself can carry other bits
("bits back").

Source: Hinton & van Camp 1993, https://doi.org/10.1145/168304.168306; arXiv 1901.04866.
"""

import math

from worldmodels.data.sequences import SequenceBatch
from worldmodels.vision import VQVAE, Vision


def rates(
    vision: Vision, episodes: SequenceBatch, *, persistence_nll: float, nll: float
) -> dict[str, float]:
    """From nats per agent step of latents sampled from V's posterior, as in `score_memory`.

    Returns:
        alone: without context: codes of equal length, or the KL divergence to V's prior.
        persistence: given the frame before, by the baseline in `memory.baselines`.
        memory: given all frames and actions before, by M.
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
