"""The command `wm compare`, which compares runs side by side."""

from pathlib import Path
from typing import Annotated, Any

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import QuietOption, app
from worldmodels.cli.tables import print_table

COLUMNS = {
    "run": ("run", "s"),
    "vision": ("vision", "s"),
    "rounds": ("rounds", "d"),
    "env steps": ("env_steps", ",d"),
    "score": ("score", ".1f"),
    "std": ("std", ".1f"),
    "test score": ("test_score", ".1f"),
    "vision error": ("vision_error", ".1f"),
    "memory nll": ("memory_nll", ".2f"),
    "reward r2": ("reward_r2", ".2f"),
    "protocol": ("protocol", "s"),
}


def print_runs(result: dict[str, Any]) -> None:
    """Print one row per run, and then the paths of the files that the command wrote."""
    from worldmodels.stages.compare import NOT_COMPARABLE

    print_table(COLUMNS, result["runs"])
    if not result["comparable"]:
        typer.echo(f"{NOT_COMPARABLE}: see the last column")
    typer.echo(", ".join(result["files"]))


@command(app, show=print_runs)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of the runs.", metavar="RUN ...")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.csv and comparison.png.")] = Path(
        "comparison"
    ),
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """Compare runs in a table of their scores and errors, and in a plot of learning curves."""
    from worldmodels.progress import Report
    from worldmodels.stages.compare import compare_runs

    return compare_runs(runs, out, report=Report(quiet))
