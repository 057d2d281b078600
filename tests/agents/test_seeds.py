import pytest

from agents.seeds import check_training_seed, seeds


def test_splits_do_not_meet_and_start_where_documented():
    assert seeds("training", 2) == [0, 1]
    assert seeds("validation", 2, start=3) == [1_000_003, 1_000_004]
    assert seeds("test", 1) == [2_000_000]
    assert seeds("training", 1, start=999_999) == [999_999]


def test_seeds_never_leave_their_split(unchecked):
    with pytest.raises(ValueError, match="cannot take 2 of them from number 999,999"):
        seeds("training", 2, start=999_999)
    with pytest.raises(ValueError, match="unknown split 'train'"):
        seeds("train", 1)  # type: ignore[arg-type]


def test_training_refuses_held_out_seeds():
    check_training_seed(999_999)
    for seed in (1_000_000, 2_000_000, -1):
        with pytest.raises(ValueError, match="is not a training seed"):
            check_training_seed(seed)
