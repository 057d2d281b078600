"""Limits on the number of values of a code, and the integer types that store codes.

A code of a lattice has one digit per dimension of the lattice. A code of a codebook has one digit.
"""

import math
from collections.abc import Sequence

import numpy as np

from worldmodels.errors import UserError

MAX_VALUES = 2**16
MAX_TABLE = 2**24  # entries of a table with a row per value and a column per value of each digit


def check_digit_sizes(sizes: Sequence[int]) -> None:
    """Raise UserError if a digit has too few values, or if a code has too many values."""
    values = math.prod(sizes)
    if not sizes or min(sizes) < 2:
        raise UserError(f"every digit of a code must have at least 2 values, got {tuple(sizes)}")
    if values > MAX_VALUES or (len(sizes) > 1 and values * sum(sizes) > MAX_TABLE):
        raise UserError(
            f"a code must have at most {MAX_VALUES:,} values, and the table of a lattice's digits "
            f"must have at most {MAX_TABLE:,} numbers, but the digits have {tuple(sizes)} values"
        )


def smallest_type(num_values: int) -> np.dtype:
    """Return the smallest integer type that holds all codes below `num_values`."""
    kinds: tuple[type[np.integer], ...] = (np.uint8, np.int16, np.int32)
    return np.dtype(next(kind for kind in kinds if num_values - 1 <= np.iinfo(kind).max))
