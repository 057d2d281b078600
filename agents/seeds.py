"""Which episode seeds are for training, for choosing, and for reporting."""

from typing import Literal, get_args

Split = Literal["training", "validation", "test"]

# Validation chooses checkpoints and settings; test is used once for an agent that is reported.
SEED_RANGES: dict[Split, range] = {
    "training": range(0, 1_000_000),
    "validation": range(1_000_000, 2_000_000),
    "test": range(2_000_000, 3_000_000),
}


def seeds(split: Split, count: int, start: int = 0) -> list[int]:
    """`count` consecutive seeds of a split, from the `start`-th on.

    Raises ValueError for an unknown split, or where the seeds would leave the split's range.
    """
    if split not in get_args(Split):
        expected = ", ".join(get_args(Split))
        raise ValueError(f"unknown split {split!r}: expected one of {expected}")
    allowed = SEED_RANGES[split]
    if count < 0 or start < 0 or start + count > len(allowed):
        raise ValueError(
            f"the {split} split holds {len(allowed):,} seeds: "
            f"cannot take {count:,} of them from number {start:,} on"
        )
    return list(allowed[start : start + count])


def check_training_seed(seed: int) -> None:
    """Raises ValueError for a seed that is kept for validation or test."""
    if seed not in SEED_RANGES["training"]:
        last = SEED_RANGES["training"].stop - 1
        raise ValueError(
            f"seed {seed:,} is not a training seed: expected 0 to {last:,}; "
            "higher ones are kept for validation and test"
        )
