"""How many values a code may have; models keep tables with a row per value."""

import math
from collections.abc import Sequence

from worldmodels.errors import UserError

MAX_VALUES = 2**16
MAX_TABLE = 2**24  # numbers of a table with a row per value and a column per value of each digit


def check_digit_sizes(sizes: Sequence[int]) -> None:
    """Raise UserError unless codes of digits with so many values each fit a table in memory."""
    values = math.prod(sizes)
    if not sizes or min(sizes) < 2:
        raise UserError(f"every digit of a code must have 2 values or more, got {tuple(sizes)}")
    if values > MAX_VALUES or (len(sizes) > 1 and values * sum(sizes) > MAX_TABLE):
        raise UserError(
            f"a code must have {MAX_VALUES:,} values or fewer, and a lattice {MAX_TABLE:,} numbers "
            f"or fewer in a table of its values' digits, got digits of {tuple(sizes)} values"
        )
