"""`wm`: parses, calls one stage, prints its result. No logic.

A file a group of commands; importing it registers them, and the help lists them in this order.
Heavy imports stay inside the commands, so that `wm --help` answers at once.
"""

# isort: off
from worldmodels.cli import training
from worldmodels.cli import looking

# isort: on
from worldmodels.cli.entry import main
from worldmodels.cli.options import app

__all__ = ["app", "looking", "main", "training"]
