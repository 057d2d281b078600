"""`wm compare`: runs side by side."""

from pathlib import Path
from typing import Annotated, Any

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import QuietOption, app

COLUMNS = {
    "run": (28, "s"),
    "latents": (11, "s"),
    "env_steps": (12, ",d"),
    "score": (9, ".1f"),
    "std": (8, ".1f"),
    "test_score": (11, ".1f"),
    "vision_error": (13, ".1f"),
    "memory_nll": (11, ".2f"),
    "reward_r2": (10, ".2f"),
}


def print_runs(result: dict[str, Any]) -> None:
    """A row per run, then the files that were written."""
    typer.echo("".join(f"{name:<{width}}" for name, (width, _) in COLUMNS.items()))
    for row in result["runs"]:
        cells = (_cell(row[name], width, kind) for name, (width, kind) in COLUMNS.items())
        typer.echo("".join(cells) + row["protocol"])
    if not result["comparable"]:
        typer.echo("scores of different protocols (last column) are not comparable")
    typer.echo(", ".join(result["files"]))


def _cell(value: Any, width: int, kind: str) -> str:
    text = "-" if value is None else format(value, kind)
    return f"{text:<{width}}" if len(text) < width else f"{text} "


@command(app, show=print_runs)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of the runs.", metavar="RUN ...")],
    out: Annotated[Path, typer.Option(help="Folder of comparison.csv and comparison.png.")] = Path(
        "comparison"
    ),
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """Runs side by side: a table of scores and models, and learning curves."""
    from worldmodels.progress import Report
    from worldmodels.stages.compare import compare_runs

    return compare_runs(runs, out, report=Report(quiet))
