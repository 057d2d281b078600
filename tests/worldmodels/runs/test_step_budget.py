"""Episodes are planned so that they fit into a number of env steps."""

from collections.abc import Sequence

import numpy as np
import pytest

from worldmodels.runs.step_budget import episodes_wanted


def played(budget: int, lengths: Sequence[int], earlier: Sequence[int] = ()) -> list[int]:
    """Return the number of episodes after each wave of episodes, until no wave is planned."""
    waves = [0]
    while (wanted := episodes_wanted(budget, lengths[: waves[-1]], earlier)) > waves[-1]:
        waves.append(wanted)
    return waves[1:]


def test_equal_episodes_fill_the_budget_in_whole_chunks() -> None:
    assert played(1_000, [10] * 200) == [8, 24, 72, 96, 100]
    assert played(1_000, [10] * 200, earlier=[10]) == [8, 24, 72, 96, 100]


def test_episodes_that_are_suddenly_long_do_not_exceed_the_budget_by_much() -> None:
    lengths = [500] * 200
    assert played(10_000, lengths, earlier=[20] * 100) == [8, 16, 20]
    assert sum(lengths[: played(3_000, lengths, earlier=[20] * 100)[-1]]) <= 4_000


@pytest.mark.parametrize("seed", range(5))
def test_episodes_of_any_lengths_come_close_to_the_budget(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 200, 1_000).tolist()
    total = sum(lengths[: played(20_000, lengths)[-1]])
    assert 0.95 * 20_000 < total < 1.05 * 20_000


def test_an_interrupted_wave_is_completed_before_the_next_is_planned() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 1_000).tolist()
    waves = played(20_000, lengths)
    for held in range(waves[-1] + 1):
        assert episodes_wanted(20_000, lengths[:held]) == min(
            (wave for wave in waves if wave > held), default=waves[-1]
        )


def test_where_no_episode_fits_none_is_played() -> None:
    assert episodes_wanted(50, [], earlier=[100]) == 0
    assert episodes_wanted(-5, [], earlier=[100]) == 0
    assert episodes_wanted(150, [100], earlier=[100]) == 1
