"""Start states of dreams: real states of V and M."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamState
from worldmodels.memory import LSTMState, Memory
from worldmodels.training.device import device_of
from worldmodels.vision import Vision

NEAR_STEPS = 8


class StartStates:
    """Real states from which start states are sampled, with weights; on the CPU.

    Args:
        weights: sampling weights of the states; none is negative, and not all are zero.
    """

    def __init__(self, states: DreamState, weights: Float[Tensor, "state"]) -> None:
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
        """Take the states of all agent steps of the episodes.

        The fraction `far_from_reward_fraction` of the samples is far from any reward. All states
        have the same weight if it is None, if all are near a reward, or if none is.
        """
        near = near_reward(sequences, NEAR_STEPS)
        weights = torch.ones(len(near))
        if far_from_reward_fraction is not None and near.any() and not near.all():
            weights[near] = (1.0 - far_from_reward_fraction) / near.sum()
            weights[~near] = far_from_reward_fraction / (~near).sum()
        return cls(real_states(vision, memory, sequences), weights)

    def sample(self, count: int, generator: torch.Generator) -> DreamState:
        """Sample `count` states with replacement."""
        total = self._cumulative[-1]
        uniform = torch.rand(count, generator=generator, dtype=total.dtype)
        index = torch.searchsorted(self._cumulative, uniform * total)
        return self.states.rows(index.clamp(max=len(self._cumulative) - 1))


@torch.no_grad()
def real_states(vision: Vision, memory: Memory, sequences: SequenceBatch) -> DreamState:
    """Compute the states (states, ...) before every agent step, at which dreams can begin.

    M's state follows from the real past of the episode. Sequences and states are on the CPU.
    """
    device = device_of(memory)
    latents = vision.mode(sequences.posteriors[:, :-1])
    before, actions = latents.to(device), sequences.actions.to(device)
    real, states = sequences.mask, [memory.initial(len(sequences))]
    for step in range(real.shape[1] - 1):
        states.append(memory.advance(states[-1], before[:, step], actions[:, step]))
    past = LSTMState(*(torch.stack(parts, 1).cpu()[real] for parts in zip(*states, strict=True)))
    return DreamState(latents[real], past, torch.ones(len(past.h)))


def near_reward(sequences: SequenceBatch, within: int) -> Bool[Tensor, "state"]:
    """Mark the `real_states` that have a reward above the mean at most `within` agent steps away.

    Far from any reward all controllers get the same return, for example deep in the grass.
    """
    good = (sequences.rewards > sequences.rewards[sequences.mask].mean()) & sequences.mask
    reach = torch.nn.functional.max_pool1d(
        good.float()[:, None], 2 * within + 1, stride=1, padding=within
    )
    return (reach[:, 0] > 0)[sequences.mask]


def spread_starts(
    episodes: SequenceBatch, horizon: int, count: int
) -> tuple[Int[Tensor, "start"], Int[Tensor, "start"]]:
    """Choose episode and agent step of each start, evenly spread where a dream has room.

    No start is an episode's first agent step, because M has no past there.

    Raises: ValueError if no episode is long enough.
    """
    rows, steps = episodes.mask.nonzero(as_tuple=True)
    lengths = episodes.mask.sum(1)
    room = ((steps + horizon <= lengths[rows]) & (steps > 0)).nonzero()[:, 0]
    if len(room) == 0:
        raise ValueError(
            f"expected an episode of more than {horizon} agent steps, the longest has "
            f"{int(lengths.max())}"
        )
    chosen = evenly_spread(room, count)
    return rows[chosen], steps[chosen]


def evenly_spread(places: Int[Tensor, "place"], count: int) -> Int[Tensor, "chosen"]:
    """Choose `count` of the places at equal distances, or all of them if there are fewer."""
    return places[torch.linspace(0, len(places) - 1, min(count, len(places))).long()]


def states_at(
    vision: Vision,
    memory: Memory,
    episodes: SequenceBatch,
    rows: Int[Tensor, "start"],
    steps: Int[Tensor, "start"],
) -> DreamState:
    """Return the real states before these agent steps of these episodes."""
    lengths = episodes.mask.sum(1)
    places = (lengths.cumsum(0) - lengths)[rows] + steps
    return real_states(vision, memory, episodes).rows(places)
