"""`wm`: parses, calls one stage, prints its result. No logic.

One file per group of commands; importing it registers them, and the help lists them in this order.
Heavy imports stay inside the commands, so that `wm --help` answers at once.
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
