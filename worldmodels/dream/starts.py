"""Where a search's dreams begin."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamState, near_reward, real_states
from worldmodels.memory import Memory
from worldmodels.vision import Vision

NEAR_STEPS = 8


class StartStates:
    """Real moments, some drawn more often than others; all of it on the CPU.

    Args:
        weights: of the moments, none negative and not all zero.
    """

    def __init__(self, states: DreamState, weights: Float[Tensor, "moment"]) -> None:
        self.states = states
        self._cumulative = weights.double().cumsum(0)

    @classmethod
    def of_episodes(
        cls,
        vision: Vision,
        memory: Memory,
        sequences: SequenceBatch,
        *,
        far_from_reward_fraction: float | None,
    ) -> StartStates:
        """All agent steps of the episodes.

        `far_from_reward_fraction` of the samples are far from any reward. With None, and where
        all states are near one, or none is, all count the same.
        """
        near = near_reward(sequences, NEAR_STEPS)
        weights = torch.ones(len(near))
        if far_from_reward_fraction is not None and near.any() and not near.all():
            weights[near] = (1.0 - far_from_reward_fraction) / near.sum()
            weights[~near] = far_from_reward_fraction / (~near).sum()
        return cls(real_states(vision, memory, sequences), weights)

    def sample(self, count: int, generator: torch.Generator) -> DreamState:
        """So many moments, each drawn anew."""
        total = self._cumulative[-1]
        uniform = torch.rand(count, generator=generator, dtype=total.dtype)
        index = torch.searchsorted(self._cumulative, uniform * total)
        return self.states.rows(index.clamp(max=len(self._cumulative) - 1))
