"""Pages in Markdown: a template per page, in `pages/`, and values that fill it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "pages"


class PerSeed(list[Any]):
    """A figure of several seeds, of which a template shows each."""

    def __format__(self, spec: str) -> str:
        return ", ".join(format(value, spec) for value in self)


def per_seed(results: Sequence[Mapping[str, Any]]) -> dict[str, PerSeed]:
    """The figures of a search's seeds, by the names of the first one's."""
    return {name: PerSeed(result[name] for result in results) for name in results[0]}


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without a line break at its end; empty without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|" + "---|" * len(heads))
    return "\n".join(lines) if len(lines) > 2 else ""


def write_page(path: Path, **values: Any) -> None:
    """Fill the template of the page's name with values.

    A line that names figures of a list of results, as in `| {table[label]} |`, is repeated for each
    of them; a cell is empty where a result lacks its figure. A section with an empty value whose
    name ends in `_table` is left out, and so is a paragraph with a value that is an empty string.
    """

    def filled(names: Iterable[str]) -> bool:
        return all(values[name] not in ("", [], {}) for name in names)

    template = (TEMPLATES / path.name).read_text(encoding="utf-8")
    sections = re.split(r"\n(?=## )", template)
    shown = [each for each in sections if filled(re.findall(r"\{(\w+_table)", each))]
    paragraphs = "\n".join(shown).split("\n\n")
    shown = [each for each in paragraphs if filled(re.findall(r"\{(\w+)", each))]
    lines = []
    for line in "\n\n".join(shown).splitlines():
        lists = [name for name in re.findall(r"\{(\w+)\[", line) if type(values[name]) is list]
        if lists:
            lines += [_row(line, lists[0], result) for result in values[lists[0]]]
        else:
            lines.append(line.format(**values))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(line: str, name: str, result: Mapping[str, Any]) -> str:
    """A table's line with each cell filled, or empty where the result lacks the figure."""

    def fill(cell: re.Match[str]) -> str:
        try:
            return cell[0].format_map({name: result})
        except KeyError:
            return "  "

    return re.sub(r"[^|]+", fill, line)
