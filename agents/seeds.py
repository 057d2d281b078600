"""Splits, which are the ranges of episode seeds for each purpose; no two splits share a seed."""

from typing import Literal

Split = Literal["training", "validation", "selection", "monitoring", "driving", "test"]

# Seeds from 1,000,000 to 1,999,999 are for evaluations during development, in four splits. A test
# seed is used once, for the reported score of an agent. Seeds from 2,900,000 on are never used.
SEED_RANGES: dict[Split, range] = {
    "training": range(0, 1_000_000),
    # Scores that are reported during development.
    "validation": range(1_000_000, 1_500_000),
    # Scores that select an agent.
    "selection": range(1_500_000, 1_600_000),
    # Evaluations during a search, which also select the agent that the search returns.
    "monitoring": range(1_600_000, 1_700_000),
    # Drives of the scripted driver, on which the experiments evaluate V and M.
    "driving": range(1_700_000, 1_800_000),
    "test": range(2_000_000, 2_900_000),
}


def seeds(split: Split, count: int, start: int = 0) -> list[int]:
    """Return `count` consecutive seeds of a split.

    The first of the `count` seeds has the position `start` in the split, counted from 0.

    Raises ValueError if the split is unknown, or if the split has too few seeds.
    """
    if split not in SEED_RANGES:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SEED_RANGES)}")
    allowed = SEED_RANGES[split]
    if count < 0 or start < 0 or start + count > len(allowed):
        raise ValueError(
            f"the {split} split holds {len(allowed):,} seeds, "
            f"but {count:,} seeds from position {start:,} on were requested"
        )
    return list(allowed[start : start + count])


def check_training_seed(seed: int) -> None:
    """Raise ValueError if `seed` is not a seed for training."""
    if seed not in SEED_RANGES["training"]:
        last = SEED_RANGES["training"].stop - 1
        raise ValueError(
            f"seed {seed:,} is not a training seed: expected 0 to {last:,}; "
            "higher seeds are kept for validation and test"
        )
