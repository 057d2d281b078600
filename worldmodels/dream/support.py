"""The support of dreams: the region for which V and M had data."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory import Memory, Prediction
from worldmodels.training.device import device_of
from worldmodels.vision import Vision


@dataclass(frozen=True)
class Support:
    """The latents and predictions for which V and M had data.

    Dreamed latents are clamped to the range from `low` to `high`, because V and M were not trained
    on latents beyond that range. A dream ends when it is out of support, that is, when one of its
    latents is too far outside the range. The largest allowed distance from the range is `MARGIN`
    times the width of the range or `NOISE` times the standard deviation of V's posterior, whichever
    is larger. A dream of an ensemble also ends if the disagreement of the models is larger than on
    99.9 % of the real agent steps. Codes cannot leave their range, so dreams of a single M over
    codes are always in support.

    A dream gets no reward after its end. The return of a dream that leaves the support is therefore
    biased. The bias is negative if the rest of the real episode would have had positive reward, and
    positive if the rest would have had negative reward. `wm dream-check` measures the bias of
    dreams with a support and the bias of unconstrained dreams.

    Attributes:
        low, high: the lowest and the highest value of each latent over real frames; both are None
            if latents are codes.
        most_disagreement: the disagreement (see `EnsemblePrediction.disagreement`) above which a
            dream is out of support; `most_disagreement` is None if M is not an ensemble.
        noise: standard deviation of V's posterior for each latent. M is trained on samples from
            this posterior, so the predictions of M include the same noise. If `noise` is None, the
            standard deviation counts as zero.
    """

    MARGIN: ClassVar[float] = 0.5
    # A latent that V leaves unused has almost no range and a noise of 1. With NOISE = 0, one such
    # latent ended every dream within two agent steps.
    NOISE: ClassVar[float] = 5.0
    QUANTILE: ClassVar[float] = 0.999

    low: Float[Tensor, "latent"] | None = None
    high: Float[Tensor, "latent"] | None = None
    most_disagreement: float | None = None
    noise: Float[Tensor, "latent"] | None = None

    @classmethod
    @torch.no_grad()
    def fit(cls, vision: Vision, memory: Memory, sequences: SequenceBatch) -> "Support":
        """Compute the support from real episodes; the episodes and the support are on the CPU."""
        mask = sequences.mask
        latents = vision.mode(sequences.posteriors)[:, :-1]
        low = high = most = noise = None
        if not vision.discrete:
            low, high = latents[mask].amin(0), latents[mask].amax(0)
            _, logvar = sequences.posteriors[:, :-1][mask].chunk(2, dim=-1)
            noise = logvar.exp().mean(0).sqrt()
        if memory.ensemble_size > 1:
            device = device_of(memory)
            before, actions = latents.to(device), sequences.actions.to(device)
            hidden, _ = memory.sequence(memory.initial(len(sequences)), before, actions)
            pairs = zip(hidden[mask].split(1024), before[mask].split(1024), strict=True)
            parts = [memory.predict(h, z).disagreement() for h, z in pairs]
            known = torch.cat([part for part in parts if part is not None])
            most = float(known.quantile(cls.QUANTILE))
        return cls(low, high, most, noise)

    def clamp(self, latent: Tensor, prediction: Prediction) -> tuple[Tensor, Bool[Tensor, "batch"]]:
        """Clamp the latents to the range, and determine which dreams are out of support."""
        out_of_support = torch.zeros(len(latent), dtype=torch.bool, device=latent.device)
        if self.low is not None and self.high is not None:
            dreamed, latent = latent, latent.clamp(self.low, self.high)
            room = self.MARGIN * (self.high - self.low)
            if self.noise is not None:
                room = torch.maximum(room, self.NOISE * self.noise)
            out_of_support = ((dreamed - latent).abs() > room).any(-1)
        if self.most_disagreement is not None:
            disagreement = prediction.disagreement()
            if disagreement is not None:
                out_of_support = out_of_support | (disagreement > self.most_disagreement)
        return latent, out_of_support

    def to(self, device: torch.device | str) -> "Support":
        """Return the same support on another device."""
        low, high, noise = (
            None if part is None else part.to(device) for part in (self.low, self.high, self.noise)
        )
        return Support(low, high, self.most_disagreement, noise)
