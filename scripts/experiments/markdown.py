"""Markdown pages, made from one template per page in `pages/` and from values."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "pages"


class PerSeed(list[Any]):
    """A figure of several seeds; a template shows it for every seed."""

    def __format__(self, spec: str) -> str:
        return ", ".join(format(value, spec) for value in self)


def per_seed(results: Sequence[Mapping[str, Any]]) -> dict[str, PerSeed]:
    """Collect every figure over the seeds of a search, by the figure's name."""
    return {name: PerSeed(result[name] for result in results) for name in results[0]}


def write_page(path: Path, **values: Any) -> None:
    """Fill the template that has the page's name with values, and write the page.

    A line that names figures of a list of results, as in `| {table[label]} |`, is repeated for each
    result. A cell is empty where a result lacks the figure. A paragraph that names an empty string
    is left out, and so is a whole section that names any other empty value.
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
    """Return the names of the values in a part of a template."""
    return set(re.findall(r"\{(\w+)", text))


def _row(line: str, name: str, result: Mapping[str, Any]) -> str:
    """Fill each cell of a table's line; a cell is empty where the result lacks the figure."""

    def fill(cell: re.Match[str]) -> str:
        try:
            return cell[0].format_map({name: result})
        except KeyError:
            return "  "

    return re.sub(r"[^|]+", fill, line)
