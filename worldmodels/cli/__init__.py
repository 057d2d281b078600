"""The command `wm`: each command parses its options, calls one stage and prints the result.

Each file holds a group of commands. Importing the file registers them, and the help lists them in
the order of the imports. Heavy imports stay inside the commands, so that `wm --help` starts fast.
"""

# isort: off
from worldmodels.cli import train, train_controller, prior, dream, evaluate
from worldmodels.cli import data, bbvi, elites, compare

# isort: on
from worldmodels.cli.main import main, run_command
from worldmodels.cli.options import app

app.add_typer(data.data_app, name="data")
app.add_typer(elites.elites_app, name="elites")

__all__ = [
    "app",
    "bbvi",
    "compare",
    "data",
    "dream",
    "elites",
    "evaluate",
    "main",
    "prior",
    "run_command",
    "train",
    "train_controller",
]
