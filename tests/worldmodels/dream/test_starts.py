from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.fixtures.frequencies import check_frequencies
from tests.fixtures.tiny_models import world
from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamState
from worldmodels.dream.starts import NEAR_STEPS, StartStates, real_states
from worldmodels.memory import LSTMState
from worldmodels.vision import VQVAE, Vision

KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int) -> DreamState:
    """Make start states in which every number follows from the index of the state."""
    number = torch.arange(float(count))[:, None]
    return DreamState(number, LSTMState(number, -number), number[:, 0])


def episodes(vision: Vision, rewards: Tensor, lengths: Sequence[int]) -> SequenceBatch:
    """Make episodes of the given lengths, whose posteriors are random."""
    shape = rewards.shape
    mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    if isinstance(vision, VQVAE):
        values = len(vision.code_vectors)
        posteriors = torch.randint(values, (shape[0], shape[1] + 1, 16), generator=draw(0))
    else:
        posteriors = torch.randn(shape[0], shape[1] + 1, 6, generator=draw(0))
    actions = torch.rand(*shape, 3, generator=draw(1))
    return SequenceBatch(posteriors, actions, rewards, torch.zeros_like(mask), mask)


def drawn_from(
    kind: str,
    rewards: Tensor,
    lengths: Sequence[int],
    far_from_reward_fraction: float | None,
    count: int = 3000,
) -> Tensor:
    """Return the index of the real state that each draw equals."""
    vision, memory = world(kind)
    sequences = episodes(vision, rewards, lengths)
    starts = StartStates.of_episodes(
        vision, memory, sequences, far_from_reward_fraction=far_from_reward_fraction
    )
    drawn, states = starts.sample(count, draw(0)), real_states(vision, memory, sequences)
    same = (drawn.memory.c[:, None] == states.memory.c).all(-1)
    same &= (drawn.latent[:, None] == states.latent).all(-1)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1)


def test_moments_are_drawn_as_often_as_their_weights_say() -> None:
    weights = torch.tensor([1.0, 0.0, 3.0, 0.5, 0.0])
    starts = StartStates(numbered(5), weights)
    drawn = starts.sample(20_000, draw(0)).weight.long()
    check_frequencies(drawn, weights / weights.sum())


def test_a_moment_is_drawn_whole() -> None:
    drawn = StartStates(numbered(9), torch.ones(9)).sample(50, draw(0))
    number = drawn.weight[:, None]
    assert drawn.weight.unique().numel() == 9
    assert torch.equal(drawn.latent, number)
    assert torch.equal(drawn.memory.h, number) and torch.equal(drawn.memory.c, -number)


def test_the_generator_alone_decides_what_is_drawn() -> None:
    starts = StartStates(numbered(1000), torch.rand(1000, generator=draw(5)))
    first = starts.sample(20, draw(0)).weight
    torch.manual_seed(1)
    assert torch.equal(starts.sample(20, draw(0)).weight, first)
    assert not torch.equal(starts.sample(20, draw(1)).weight, first)


@KINDS
@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0, None])
def test_so_many_draws_are_far_from_any_reward(kind: str, fraction: float | None) -> None:
    rewards = torch.zeros(2, 30)
    rewards[0, 5], rewards[1, 19] = 1.0, 1.0
    rewards[1, 25] = 9.0  # beyond its episode's end
    numbers = drawn_from(kind, rewards, [30, 20], fraction)
    near = torch.zeros(50)
    near[: 5 + NEAR_STEPS + 1] = 1.0
    near[30 + 19 - NEAR_STEPS :] = 1.0
    count = near.sum()
    if fraction is None:
        weights = torch.full((50,), 1 / 50)
    else:
        weights = near * (1 - fraction) / count + (1 - near) * fraction / (50 - count)
    check_frequencies(numbers, weights)


@pytest.mark.parametrize("rewards", [0.0, 0.1])
def test_all_moments_count_alike_where_no_reward_stands_out(rewards: float) -> None:
    numbers = drawn_from("vae", torch.full((2, 15), rewards), [15, 7], far_from_reward_fraction=0.0)
    check_frequencies(numbers, torch.full((22,), 1 / 22))
