"""Measure several functions, the contenders, in turns, and print a table of the results.

Every contender has one turn per round, so that all contenders become slower if the machine becomes
slower. For the same reason, every ratio is between two rates of the same round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

Rows = Sequence[Mapping[str, Any]]
# Does something a number of times, and returns the number.
Work = Callable[[], float]
BURST = 4  # steps between two readings of the clock


def take_turns(
    contenders: Sequence[Callable[[], ArrayLike]], turns: int
) -> Float64[np.ndarray, "contender turn *measured"]:
    """Return the measurements of every turn of every contender."""
    measured = [[turn() for turn in contenders] for _ in range(turns)]
    return np.array(measured, np.float64).swapaxes(0, 1)


def compare(
    title: str, headings: Sequence[str], contests: Iterable[tuple[str, Work, Work]], turns: int
) -> list[dict[str, Any]]:
    """Print and return one row per contest: both contenders' median rates, and the median ratio.

    Args:
        headings: headings of three columns: names of contests, our rates, and rates of the peers.
        contests: one tuple per contest. The tuple consists of the contest's name, our `Work` and
            the peer's `Work`.
    """
    what, mine, others = headings
    columns = {"name": (what, ""), "per_second": (mine, ",.0f")}
    columns |= {"peer_per_second": (others, ",.0f"), "ratio": ("ratio", ".2f")}
    rows = []
    for name, *contenders in contests:
        for work in contenders:
            work()  # not timed: processes start, buffers are made
        ours, peer = take_turns([partial(_rate, work) for work in contenders], turns)
        medians = [float(np.median(rates)) for rates in (ours, peer, ours / peer)]
        rows.append(dict(zip(columns, (name, *medians), strict=True)))
    print_table(title, columns, rows)
    return rows


def _rate(work: Work) -> float:
    started = time.perf_counter()
    return work() / (time.perf_counter() - started)


def steps_per_second(
    step: Callable[[], Any], seconds: float, now: Callable[[], float] = time.perf_counter
) -> float:
    """Repeat `step` for `seconds` seconds, and return the number of steps per second."""
    step()  # not timed: buffers are made anew after another contender's turn
    count, start = 0, now()
    while now() - start < seconds:
        for _ in range(BURST):
            step()
        count += BURST
    return count / (now() - start)


def print_table(
    title: str, columns: Mapping[str, tuple[str, str]], rows: Rows, bold: str = ""
) -> None:
    """Print one row per contender.

    Args:
        columns: maps each key of the rows to the heading and the number format of the key's column.
            The value None in a row becomes an empty cell.
        bold: name of the row that is printed in bold.
    """
    table = Table(title=title)
    for key, (heading, _) in columns.items():
        table.add_column(heading, justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        cells = (
            "" if row[key] is None else format(row[key], form) for key, (_, form) in columns.items()
        )
        table.add_row(*cells, style="bold" if bold and row["name"] == bold else None)
    Console(width=max(120, Console().width)).print(table)
