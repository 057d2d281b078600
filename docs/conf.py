"""Sphinx: how the documentation site is built. `python -m sphinx -W docs docs/_build`."""

from importlib.metadata import version as installed_version

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
exclude_patterns = ["_build", "**.ipynb_checkpoints", "results/**/*.md"]

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
