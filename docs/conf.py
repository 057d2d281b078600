"""Settings of Sphinx; `python -m sphinx -W docs docs/_build` builds the documentation."""

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
# The files of the last line are not pages: pages of `experiments` include them.
exclude_patterns = [
    "_build",
    "jupyter_execute",  # myst-nb writes it beside _build
    "**.ipynb_checkpoints",
    *(f"{name}.md" for name in ("vision", "memory", "search", "elites", "elites_frames")),
]

# The committed notebooks contain the results of long runs. The test suite executes the notebooks
# with small sizes.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# With this setting, Sphinx shows the source text of types, such as Float[Tensor, "batch feature"].
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "returns_style"), ("Differs", "returns_style")]

html_theme = "furo"
html_title = "worldmodels"
html_theme_options = {}

# Within a docstring, `name` is shown as code.
default_role = "code"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# Labels with which paragraphs of docstrings begin. The further lines of such a paragraph are
# indented, and reStructuredText would show these lines as the definition of a term.
LABELS = re.compile(r"(Raises|Returns|Source|Differs): (?=\S)")
ARRAY_LIKE = re.compile(r"[~\w.]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]")

_properties: dict[str, list[str]] = {}  # docstrings, by name; napoleon would split them at a colon


def emphasize_labels(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Make the label at the start of a paragraph bold, before napoleon processes the docstring."""
    indent: int | None = None  # the indentation of the present labeled paragraph
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
    """Restore the docstring of a property after napoleon, and escape the stars in types."""
    if what == "property":
        lines[:] = _properties.pop(name)
    lines[:] = [line.replace("*", r"\*") if ":type:" in line else line for line in lines]


def shorten_signature(
    app: Sphinx, what: str, name: str, obj: object, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Return a shorter signature; the signature of a protocol becomes empty."""
    if getattr(obj, "_is_protocol", False):
        return "", ""
    if not signature:
        return None
    short = ARRAY_LIKE.sub("~numpy.typing.ArrayLike", signature.replace("<factory>", "..."))
    return short, returned


def write_command_line(app: Sphinx) -> None:
    """Write the page about the command line, which lists the options of every command."""
    command = get_command(wm)
    context = typer.Context(command, info_name="wm")
    text = get_docs_for_click(obj=command, ctx=context, name="wm")
    page = text.replace("# `wm`", "# The command line", 1)
    Path(app.srcdir, "command_line.md").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx; a priority below 500 means before napoleon."""
    app.connect("builder-inited", write_command_line)
    app.connect("autodoc-process-docstring", emphasize_labels, priority=400)
    app.connect("autodoc-process-docstring", restore_properties, priority=600)
    app.connect("autodoc-process-signature", shorten_signature)
