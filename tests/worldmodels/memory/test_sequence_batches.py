from typing import Any

import torch

from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory.training import SequenceBatches

LENGTHS = (9, 3, 14)


def episodes() -> SequenceBatch:
    """Make episodes in which agent step t of episode e has the reward 100 e + t."""
    rows, longest = len(LENGTHS), max(LENGTHS)
    rewards = torch.arange(rows)[:, None] * 100.0 + torch.arange(longest)
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    never = torch.zeros(rows, longest, dtype=torch.bool)
    return SequenceBatch(
        torch.zeros(rows, longest + 1, 2), torch.zeros(rows, longest, 3), rewards, never, mask
    )


def windows(**settings: Any) -> SequenceBatch:
    batches = SequenceBatches(episodes(), batch_size=400, **settings)
    return batches(0, torch.Generator().manual_seed(0))


def test_windows_lie_within_their_episodes_and_begin_anywhere() -> None:
    batch = windows(length=5)
    assert batch.rewards.shape == (400, 5)
    first = batch.rewards[:, 0]
    starts = {(int(r // 100), int(r % 100)) for r in first}
    assert starts == {(0, t) for t in range(5)} | {(1, 0)} | {(2, t) for t in range(10)}
    lengths = batch.mask.sum(1)
    assert torch.equal(lengths == 3, first // 100 == 1) and ((lengths == 5) | (lengths == 3)).all()
    torch.testing.assert_close(
        batch.rewards.diff(dim=1)[lengths == 5], torch.ones(()).expand(int((lengths == 5).sum()), 4)
    )


def test_what_only_warms_up_the_state_is_not_learned_from() -> None:
    batch = windows(length=5, burn_in=2)
    whole = windows(length=5)
    assert torch.equal(batch.rewards, whole.rewards)
    inside = batch.rewards[:, 0] % 100 > 0
    assert 0 < inside.sum() < 400
    assert not batch.mask[inside, :2].any()
    assert torch.equal(batch.mask[inside, 2:], whole.mask[inside, 2:])
    # An episode's beginning is what a dream begins with too.
    assert torch.equal(batch.mask[~inside], whole.mask[~inside])


def test_burning_in_leaves_the_episodes_as_they_are() -> None:
    data = episodes()
    batches = SequenceBatches(data, batch_size=50, length=5, burn_in=2)
    batches(0, torch.Generator().manual_seed(0))
    assert data.mask.sum() == sum(LENGTHS)
