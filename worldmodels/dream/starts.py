"""Start states of dreams: the latents and the states of M before agent steps of real episodes."""

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
    """States of real episodes, from which the start states of dreams are sampled.

    Args:
        states: states on the CPU.
        weights: the probability of sampling a state is proportional to its weight. No weight may be
            negative, and at least one weight must be above zero.
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
        """Collect the states before all agent steps of the episodes.

        A fraction `far_from_reward_fraction` of the sampled states is far from reward, which means
        that `near_reward` does not mark these states. All states have the same weight if
        `far_from_reward_fraction` is None, or if `near_reward` marks all states or no state.
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
    """Compute the state before every agent step of the episodes, with the shapes (states, ...).

    M's state is computed from the earlier agent steps of the real episode. The given sequences and
    the returned states are on the CPU.
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
    """Mark the `real_states` that are at most `within` agent steps from a reward above the mean.

    In a state far from any such reward, for example deep in the grass of CarRacing, all controllers
    get the same return, so a search of C learns little from dreams that begin there.
    """
    good = (sequences.rewards > sequences.rewards[sequences.mask].mean()) & sequences.mask
    reach = torch.nn.functional.max_pool1d(
        good.float()[:, None], 2 * within + 1, stride=1, padding=within
    )
    return (reach[:, 0] > 0)[sequences.mask]


def spread_starts(
    episodes: SequenceBatch, horizon: int, count: int
) -> tuple[Int[Tensor, "start"], Int[Tensor, "start"]]:
    """Choose `count` starts of dreams, evenly spread over all possible starts.

    A start is possible where at least `horizon` agent steps of the episode remain. The first agent
    step of an episode is not a possible start, because M has no past at that agent step.

    Returns: the index of the episode and the agent step of each start.

    Raises: ValueError if no episode is longer than `horizon` agent steps.
    """
    rows, steps = episodes.mask.nonzero(as_tuple=True)
    lengths = episodes.mask.sum(1)
    room = ((steps + horizon <= lengths[rows]) & (steps > 0)).nonzero()[:, 0]
    if len(room) == 0:
        raise ValueError(
            f"expected an episode of more than {horizon} agent steps, but the longest has "
            f"{int(lengths.max())}"
        )
    chosen = evenly_spread(room, count)
    return rows[chosen], steps[chosen]


def evenly_spread(places: Int[Tensor, "place"], count: int) -> Int[Tensor, "chosen"]:
    """Choose `count` of the places at equal distances; choose all places if `count` is larger."""
    return places[torch.linspace(0, len(places) - 1, min(count, len(places))).long()]


def states_at(
    vision: Vision,
    memory: Memory,
    episodes: SequenceBatch,
    rows: Int[Tensor, "start"],
    steps: Int[Tensor, "start"],
) -> DreamState:
    """Return, for each i, the real state before agent step `steps[i]` of episode `rows[i]`."""
    lengths = episodes.mask.sum(1)
    places = (lengths.cumsum(0) - lengths)[rows] + steps
    return real_states(vision, memory, episodes).rows(places)
