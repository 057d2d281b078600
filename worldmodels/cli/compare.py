"""The command that compares kinds of V."""

from pathlib import Path
from typing import Annotated

import typer

from worldmodels.cli.options import (
    DeviceOption,
    JsonOption,
    QuietOption,
    WorkersOption,
    app,
    print_facts,
    print_result,
)


@app.command()
def compare(
    only: Annotated[
        str | None,
        typer.Option(help="This one, such as fsq-2 or vae-1-z; default: the first missing."),
    ] = None,
    draw: Annotated[
        bool, typer.Option("--draw", help="Work on none; draw the page from the results there are.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/compare"),
    docs: Annotated[Path, typer.Option(help="Where figures and results.md go.")] = Path("docs"),
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """VAE, VQ-VAE and FSQ side by side: one run or ablation a call, then docs/results.md."""
    from scripts.experiments.quantized.compare import CompareConfig
    from scripts.experiments.quantized.compare import compare as stage
    from worldmodels.cli.session import open_workers
    from worldmodels.hardware import choose_device

    config = CompareConfig(only=only, draw=draw, runs=runs, docs=docs)
    with open_workers(quiet, workers) as (hands, report):
        result = stage(config, workers=hands, report=report, device=choose_device(device))
    print_result(result, as_json, lambda: print_facts(result))
