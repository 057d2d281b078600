"""The program `wm`; each command parses options, calls one stage and prints the result.

Each group of commands has its own file. Importing the file registers the commands, and `wm --help`
lists the commands in the order of the imports. Slow imports are inside the functions of
the commands, so that `wm --help` starts fast.
"""

# isort: off
from worldmodels.cli import train, train_controller, prior, dream, evaluate  # noqa: F401
from worldmodels.cli import data, bbvi, elites, compare  # noqa: F401

# isort: on
from worldmodels.cli.main import main, run_command
from worldmodels.cli.options import app

app.add_typer(data.data_app, name="data")
app.add_typer(elites.elites_app, name="elites")

__all__ = ["app", "main", "run_command"]
