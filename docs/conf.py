"""Settings of Sphinx for the documentation, which `sphinx -W docs docs/_build` builds."""

import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click
from typer.main import get_command

from worldmodels.cli import app as wm

project = "worldmodels"
author = "The worldmodels authors"
copyright = f"2026, {author}"
release = installed_version("worldmodels-gym")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "myst_nb",
]
# The last ones are included into the pages of `experiments`, whose tables they are.
exclude_patterns = [
    "_build",
    "jupyter_execute",  # myst-nb writes it beside _build
    "**.ipynb_checkpoints",
    *(f"{name}.md" for name in ("vision", "memory", "search", "elites", "elites_frames")),
]

# The notebooks show results of longer runs, which are committed with them. The test suite executes
# them at a small size.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# A shape in a type, such as Float[Tensor, "batch feature"], is shown as it is written.
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "returns_style"), ("Differs", "returns_style")]

html_theme = "furo"
html_title = "worldmodels"
html_theme_options = {}

# `name` within a docstring is code.
default_role = "code"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# Paragraphs of docstrings that begin with one of these. Their next lines are indented, which
# reStructuredText would take for the definition of a term.
LABELS = re.compile(r"(Raises|Returns|Source|Differs): (?=\S)")
ARRAY_LIKE = re.compile(r"[~\w.]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]")

_properties: dict[str, list[str]] = {}  # their docstrings, which napoleon would split at a colon


def emphasize_labels(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Make the labels of labeled paragraphs bold, before napoleon processes the docstring."""
    indent: int | None = None  # of the paragraph that the line belongs to
    result: list[str] = []
    for line in lines:
        text = line.lstrip()
        own = len(line) - len(text)
        if match := LABELS.match(text):
            if result and result[-1].strip():
                result.append("")
            indent = own
            line = f"{' ' * own}**{match[1]}:** {text[match.end() :]}"
        elif indent is not None and text and own > indent:
            line = " " * indent + text
        else:
            indent = None
        result.append(line)
    lines[:] = result
    if what == "property":
        _properties[name] = result


def restore_properties(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Restore the docstring of a property after napoleon, and escape stars in its type."""
    if what == "property":
        lines[:] = _properties.pop(name)
    lines[:] = [line.replace("*", r"\*") if ":type:" in line else line for line in lines]


def shorten_signature(
    app: Sphinx, what: str, name: str, obj: object, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Shorten a signature; the signature of a protocol is left out."""
    if getattr(obj, "_is_protocol", False):
        return "", ""
    if not signature:
        return None
    short = ARRAY_LIKE.sub("~numpy.typing.ArrayLike", signature.replace("<factory>", "..."))
    return short, returned


def write_command_line(app: Sphinx) -> None:
    """Write the page about the command line from the options that the commands declare."""
    command = get_command(wm)
    context = typer.Context(command, info_name="wm")
    text = get_docs_for_click(obj=command, ctx=context, name="wm")
    page = text.replace("# `wm`", "# The command line", 1)
    Path(app.srcdir, "command_line.md").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above; priorities below 500 come before napoleon."""
    app.connect("builder-inited", write_command_line)
    app.connect("autodoc-process-docstring", emphasize_labels, priority=400)
    app.connect("autodoc-process-docstring", restore_properties, priority=600)
    app.connect("autodoc-process-signature", shorten_signature)
