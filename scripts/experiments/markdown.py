"""Write Markdown pages: fill values into the templates in `pages/`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "pages"


class PerSeed(list[Any]):
    """The values of one metric for several seeds. A page shows all of these values in one cell."""

    def __format__(self, spec: str) -> str:
        return ", ".join(format(value, spec) for value in self)


def per_seed(results: Sequence[Mapping[str, Any]]) -> dict[str, PerSeed]:
    """Return a dict from the name of each metric to the metric's values for all seeds."""
    return {name: PerSeed(result[name] for result in results) for name in results[0]}


def write_page(path: Path, **values: Any) -> None:
    """Write the page: fill the values into the template that has the same file name as the page.

    A template line that contains `{table[label]}`, where `table` is a list of results, is repeated
    for each result of the list, and the result's value of `label` is filled in. If a result lacks
    the value of a table cell, the cell is empty. A paragraph is left out if it names a value
    that is an empty string. A section is left out if it names a value that is an empty list, an
    empty dict or None.
    """
    template = (TEMPLATES / path.name).read_text(encoding="utf-8")
    empty = {name for name, value in values.items() if value in (None, [], {})}
    sections = [each for each in re.split(r"\n(?=## )", template) if not empty & _names(each)]
    empty = {name for name, value in values.items() if value == ""}
    paragraphs = "\n".join(sections).split("\n\n")
    shown = [each for each in paragraphs if not empty & _names(each)]
    lines = []
    for line in "\n\n".join(shown).splitlines():
        tables = [name for name in _names(line) if isinstance(values[name], list)]
        if tables:
            lines += [_row(line, tables[0], result) for result in values[tables[0]]]
        else:
            lines.append(line.format(**values))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _names(text: str) -> set[str]:
    """Return the names of the values that a part of a template contains."""
    return set(re.findall(r"\{(\w+)", text))


def _row(line: str, name: str, result: Mapping[str, Any]) -> str:
    """Fill each cell of a table line. A cell is empty if the result lacks the cell's value."""

    def fill(cell: re.Match[str]) -> str:
        try:
            return cell[0].format_map({name: result})
        except KeyError:
            return "  "

    return re.sub(r"[^|]+", fill, line)
