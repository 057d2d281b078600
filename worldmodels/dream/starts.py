"""Where a search's dreams begin."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamState, near_reward, real_moments
from worldmodels.memory import Memory
from worldmodels.vision import Vision

NEAR_DECISIONS = 8


class DreamStarts:
    """Real moments, some drawn more often than others; all of it on the CPU.

    Args:
        weights: of the moments, none negative and not all zero.
    """

    def __init__(self, moments: DreamState, weights: Float[Tensor, "moment"]) -> None:
        self.moments = moments
        self._cumulative = weights.double().cumsum(0)

    @classmethod
    def of_episodes(
        cls,
        vision: Vision,
        memory: Memory,
        sequences: SequenceBatch,
        *,
        far_share: float | None,
    ) -> DreamStarts:
        """All decisions of the episodes; `far_share` of the draws are far from any reward.

        With None, and where all moments are near one, or none is, all count the same.
        """
        near = near_reward(sequences, NEAR_DECISIONS)
        weights = torch.ones(len(near))
        if far_share is not None and near.any() and not near.all():
            weights[near] = (1.0 - far_share) / near.sum()
            weights[~near] = far_share / (~near).sum()
        return cls(real_moments(vision, memory, sequences), weights)

    def draw(self, count: int, generator: torch.Generator) -> DreamState:
        """So many moments, each drawn anew."""
        total = self._cumulative[-1]
        uniform = torch.rand(count, generator=generator, dtype=total.dtype)
        index = torch.searchsorted(self._cumulative, uniform * total)
        return self.moments.rows(index.clamp(max=len(self._cumulative) - 1))
