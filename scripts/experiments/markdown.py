"""Pages in Markdown: a template per page, in `pages/`, and tables that go into it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "pages"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without a line break at its end; empty without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    head = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*head, *lines]) if lines else ""


def write_page(path: Path, **values: Any) -> None:
    """Fill the template of the page's name with values.

    A section with an empty value whose name ends in `_table` is left out.
    """
    sections = re.split(r"\n(?=## )", (TEMPLATES / path.name).read_text(encoding="utf-8"))
    shown = [
        section.format(**values)
        for section in sections
        if all(values[name] for name in re.findall(r"\{(\w+_table)\}", section))
    ]
    path.write_text("\n".join(shown).rstrip() + "\n", encoding="utf-8")
