"""Pages in Markdown: a template per page, in `pages/`, and tables that go into it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "pages"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without a line break at its end; empty without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|" + "---|" * len(heads))
    return "\n".join(lines) if len(lines) > 2 else ""


def results_table(columns: Mapping[str, str], results: Iterable[Mapping[str, Any]]) -> str:
    """A table with a row per result.

    Args:
        columns: by head, a format string that takes the result's figures by name. The cell is empty
            where the result lacks a figure.
    """
    rows = [[_cell(column, result) for column in columns.values()] for result in results]
    return markdown_table(list(columns), rows)


def _cell(column: str, result: Mapping[str, Any]) -> str:
    try:
        return column.format_map(result)
    except KeyError:
        return ""


def write_page(path: Path, **values: Any) -> None:
    """Fill the template of the page's name with values.

    A section with an empty value whose name ends in `_table` is left out, and so is a paragraph
    with any value that is an empty string.
    """

    def filled(names: Iterable[str]) -> bool:
        return all(values[name] not in ("", {}) for name in names)

    template = (TEMPLATES / path.name).read_text(encoding="utf-8")
    sections = re.split(r"\n(?=## )", template)
    shown = [each for each in sections if filled(re.findall(r"\{(\w+_table)", each))]
    paragraphs = "\n".join(shown).split("\n\n")
    shown = [each for each in paragraphs if filled(re.findall(r"\{(\w+)", each))]
    path.write_text("\n\n".join(shown).format(**values).rstrip() + "\n", encoding="utf-8")
