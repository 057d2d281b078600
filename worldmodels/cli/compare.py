"""`wm compare`: runs side by side."""

from pathlib import Path
from typing import Annotated, Any

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import QuietOption, app

COLUMNS = {
    "run": (28, "s"),
    "vision": (8, "s"),
    "rounds": (8, "d"),
    "env_steps": (12, ",d"),
    "score": (9, ".1f"),
    "std": (8, ".1f"),
    "test_score": (12, ".1f"),
    "vision_error": (14, ".1f"),
    "memory_nll": (12, ".2f"),
    "reward_r2": (11, ".2f"),
    "protocol": (0, "s"),
}


def print_runs(result: dict[str, Any]) -> None:
    """A row per run, then the files that were written."""
    from worldmodels.stages.compare import NOT_COMPARABLE

    typer.echo("".join(f"{name:<{width}}" for name, (width, _) in COLUMNS.items()))
    for row in result["runs"]:
        typer.echo("".join(_cell(row[name], *form) for name, form in COLUMNS.items()).rstrip())
    if not result["comparable"]:
        typer.echo(f"{NOT_COMPARABLE}: see the last column")
    typer.echo(", ".join(result["files"]))


def _cell(value: Any, width: int, kind: str) -> str:
    text = "-" if value is None else format(value, kind)
    return f"{text:<{width}}" if len(text) < width else f"{text} "


@command(app, show=print_runs)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of the runs.", metavar="RUN ...")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.csv and .png.")] = Path(
        "comparison"
    ),
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """Compare runs in a table of scores and models, and in learning curves."""
    from worldmodels.progress import Report
    from worldmodels.stages.compare import compare_runs

    return compare_runs(runs, out, report=Report(quiet))
