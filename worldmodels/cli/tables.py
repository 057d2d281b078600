"""Tables that commands print for people."""

from collections.abc import Iterable, Mapping
from typing import Any

import typer


def print_table(columns: Mapping[str, tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a line of headings and one line per row; a value that is None is printed as "-".

    Args:
        columns: a pair for each heading, which consists of the key of the column's values in a row
            and of the format of these values, such as ".1f".
    """
    lines = [list(columns)]
    for row in rows:
        values = [(row[key], form) for key, form in columns.values()]
        lines.append(["-" if value is None else format(value, form) for value, form in values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, columns.values(), strict=True)
        texts = [f"{text:{'<' if form == 's' else '>'}{width}}" for text, width, (_, form) in cells]
        typer.echo("  ".join(texts).rstrip())


def print_scores(result: dict[str, Any]) -> None:
    """Print the mean, its 95 % interval and the standard deviation of each policy's returns."""
    columns = {"policy": ("policy", "s"), "mean": ("mean", ".1f"), "std": ("std", ".1f")}
    rows = [dict(row) for row in result["rows"]]
    for row in rows:  # a single episode has neither a spread nor an interval
        row["limits"] = row["interval"] and "{:.1f} to {:.1f}".format(*row["interval"])
    typer.echo(f"{result['env_id']}, {result['episodes']} {result['split']} episodes")
    print_table({**columns, "95 % interval": ("limits", "s")}, rows)
