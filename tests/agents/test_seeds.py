from itertools import combinations

import pytest

from agents.seeds import SEED_RANGES, check_training_seed, seeds


def test_splits_start_where_documented() -> None:
    assert seeds("training", 2) == [0, 1]
    assert seeds("validation", 2, start=3) == [1_000_003, 1_000_004]
    assert seeds("selection", 1) == [1_500_000]
    assert seeds("monitoring", 1) == [1_600_000]
    assert seeds("test", 1) == [2_000_000]
    assert seeds("training", 1, start=999_999) == [999_999]


def test_no_seed_has_two_purposes_and_none_is_beyond_the_documented_end() -> None:
    for one, other in combinations(SEED_RANGES, 2):
        ours, theirs = SEED_RANGES[one], SEED_RANGES[other]
        assert ours.stop <= theirs.start or theirs.stop <= ours.start, (one, other)
    assert max(each.stop for each in SEED_RANGES.values()) == 2_900_000
    for split in ("validation", "selection", "monitoring", "driving"):
        assert SEED_RANGES[split].start >= 1_000_000 and SEED_RANGES[split].stop <= 2_000_000


def test_seeds_never_leave_their_split(unchecked: None) -> None:
    with pytest.raises(ValueError, match="but 2 seeds from position 999,999 on"):
        seeds("training", 2, start=999_999)
    with pytest.raises(ValueError, match="the test split holds 900,000 seeds"):
        seeds("test", 1, start=900_000)
    with pytest.raises(ValueError, match="unknown split 'train'"):
        seeds("train", 1)  # type: ignore[arg-type]


def test_training_refuses_held_out_seeds() -> None:
    check_training_seed(999_999)
    for seed in (1_000_000, 2_000_000, -1):
        with pytest.raises(ValueError, match="is not a training seed"):
            check_training_seed(seed)
