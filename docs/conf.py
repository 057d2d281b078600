"""Sphinx: how the documentation site is built. `python -m sphinx -W docs docs/_build`."""

from importlib.metadata import version as installed_version
from pathlib import Path

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
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "myst_nb",
]
# The last ones are included into the pages of `experiments`, whose tables they are.
exclude_patterns = [
    "_build",
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


def write_command_line(app: Sphinx) -> None:
    """The page about the command line, from the options that the commands declare."""
    command = get_command(wm)
    context = typer.Context(command, info_name="wm")
    text = get_docs_for_click(obj=command, ctx=context, name="wm")
    Path(app.srcdir, "command_line.md").write_text(
        text.replace("# `wm`", "# The command line", 1), encoding="utf-8"
    )


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_command_line)
