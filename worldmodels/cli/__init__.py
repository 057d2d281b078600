"""`wm`: parses, calls one stage, prints its result. No logic.

A file a group of commands; importing it registers them, and the help lists them in this order.
Heavy imports stay inside the commands, so that `wm --help` answers at once.
"""

# isort: off
from worldmodels.cli import train as training
from worldmodels.cli import prior
from worldmodels.cli import dream as dreaming
from worldmodels.cli import evaluate as looking
from worldmodels.cli import data
from worldmodels.cli import bbvi as inference
from worldmodels.cli import elites
from worldmodels.cli import compare as comparing

# isort: on
from worldmodels.cli.main import main, run_command
from worldmodels.cli.options import app

app.add_typer(data.data_app, name="data")
app.add_typer(elites.elites_app, name="elites")

__all__ = [
    "app",
    "comparing",
    "data",
    "dreaming",
    "elites",
    "inference",
    "looking",
    "main",
    "prior",
    "run_command",
    "training",
]
