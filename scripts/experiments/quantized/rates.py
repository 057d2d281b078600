"""How many bits of a frame there are to tell, alone and after what M has seen: codes and latents.

Nats of latents (a density) and of codes (a probability) do not compare. Bits do that a receiver
needs who has the same models: of codes -log2 p(codes); of a latent drawn from the posterior q,
log2 q(z) - log2 p(z), for the draw itself can carry other bits ("bits back").

Source: Hinton & van Camp 1993, https://doi.org/10.1145/168304.168306; arXiv 1901.04866.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from worldmodels.data.sequences import SequenceBatch
from worldmodels.vision import VQVAE, Vision


@dataclass(frozen=True)
class Rates:
    """Bits a frame.

    Attributes:
        alone: nothing known of the frame: codes of equal length, or the KL divergence to V's prior.
        stay: the frame before is known; the next one is like it: see `memory.baselines`.
        memory: all frames and actions before are known to M.
    """

    alone: float
    persistence: float
    memory: float


def rates(vision: Vision, episodes: SequenceBatch, *, persistence_nll: float, nll: float) -> Rates:
    """From nats per agent step of latents drawn from V's posterior, as `score_memory` has them."""
    if isinstance(vision, VQVAE):
        alone = vision.config.num_codes * math.log(vision.config.num_values)
        known = 0.0
    else:
        mu, logvar = episodes.posteriors[:, 1:][episodes.mask].double().chunk(2, dim=-1)
        alone = float(0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(-1).mean())
        known = float(0.5 * (logvar + math.log(2.0 * math.pi * math.e)).sum(-1).mean())
    nats = (alone, persistence_nll - known, nll - known)
    return Rates(*(value / math.log(2.0) for value in nats))
