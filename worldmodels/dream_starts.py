"""Where a search's dreams begin."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.batches import SequenceBatch
from worldmodels.dream import DreamState, near_reward, real_moments
from worldmodels.memory import Memory
from worldmodels.vision import Vision

NEAR_DECISIONS = 8


class DreamStarts:
    """Real moments, some drawn more often than others.

    Args:
        weights: of the moments, none negative and not all zero.
    """

    def __init__(self, moments: DreamState, weights: Float[Tensor, "moment"]) -> None:
        self.moments = moments
        self._cumulative = weights.double().cumsum(0)

    @property
    def device(self) -> torch.device:
        """Where the moments are."""
        return self._cumulative.device

    @classmethod
    def of_episodes(
        cls,
        vision: Vision,
        memory: Memory,
        sequences: SequenceBatch,
        *,
        far_share: float | None,
        device: str = "cpu",
    ) -> DreamStarts:
        """All decisions of the episodes; `far_share` of the draws are far from any reward.

        With None, and where all moments are near one, or none is, all count the same.
        """
        near = near_reward(sequences, NEAR_DECISIONS)
        weights = torch.ones(len(near), device=near.device)
        if far_share is not None and near.any() and not near.all():
            weights[near] = (1.0 - far_share) / near.sum()
            weights[~near] = far_share / (~near).sum()
        moments = real_moments(vision, memory, sequences)
        return cls(moments.to(device), weights.to(device))

    def draw(self, count: int, generator: torch.Generator) -> DreamState:
        """So many moments, each drawn anew."""
        total = self._cumulative[-1]
        uniform = torch.rand(
            count, generator=generator, device=generator.device, dtype=total.dtype
        ).to(self.device)
        index = torch.searchsorted(self._cumulative, uniform * total)
        return self.moments.rows(index.clamp(max=len(self._cumulative) - 1))
