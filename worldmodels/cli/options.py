"""What the commands share: the app, options that mean the same everywhere, how results print."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldmodels.cli.json_output import keep_stdout_for_json, write_json_to_stdout

if TYPE_CHECKING:
    from worldmodels.cli.session import Session

app = typer.Typer(
    help="World models: collect, train V, M and C, evaluate, record; in the game or in the dream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
EnvOption = Annotated[
    str | None,
    typer.Option(
        "--env", help="Gymnasium id, or module:id with a module that registers it; a new run's env."
    ),
]
EnvArgOption = Annotated[
    list[str] | None,
    typer.Option("--env-arg", help="name=value for the env's constructor, JSON; may be repeated."),
]
ObservationKeyOption = Annotated[
    str | None,
    typer.Option(help="Entry of a Dict observation that is the picture; render: draw the env."),
]
SeedOption = Annotated[int | None, typer.Option(help="A new run's seed.")]
AgentOption = Annotated[
    Path | None,
    typer.Option(
        "--agent", help="A file, a run, or carracing, carracing-quantized; in place of --run's."
    ),
]
PresetOption = Annotated[str | None, typer.Option(help="demo, cpu, study, paper, gpu.")]
WorkersOption = Annotated[int | None, typer.Option(help="Processes; default: one a core.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, mps: where V and M train.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress, no lines.")]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as JSON, and all else to stderr.",
        callback=keep_stdout_for_json,
    ),
]
QuantizedOption = Annotated[bool, typer.Option("--quantized", help="V with codes (VQ-VAE).")]

MOST_SHOWN = 8  # of a list's values; longer ones are for the JSON

DEFAULT_RUN = Path("runs/default")


def open_run_session(
    folder: Path, quiet: bool, workers: int | None = None, **settings: Any
) -> AbstractContextManager[Session]:
    """What every command works in: the run, its preset, workers and a report."""
    from worldmodels.cli.session import open_session

    return open_session(folder, quiet=quiet, num_workers=workers, **settings)


def print_result(result: dict[str, Any], as_json: bool, otherwise: Callable[[], None]) -> None:
    """One JSON document for programs, or whatever `otherwise` prints for people."""
    if as_json:
        write_json_to_stdout(result)
    else:
        otherwise()


def print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Names and values, a line each; histories are for the JSON."""
    width = max((len(name) for name in facts), default=0) + 2
    for name, value in facts.items():
        if name == "history" or (isinstance(value, list) and len(value) > MOST_SHOWN):
            continue
        if isinstance(value, dict):
            typer.echo(f"{indent}{name}")
            print_facts(value, indent + "  ")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else value
            typer.echo(f"{indent}{name:<{width}}{shown}")


def print_scores(result: dict[str, Any]) -> None:
    """A row a policy: mean, spread, confidence interval."""
    typer.echo(f"{result['env_id']}, {result['episodes']} {result['split']} episodes")
    typer.echo(f"{'policy':<14}{'mean':>8}{'std':>8}   95 % interval")
    for row in result["rows"]:
        spread, interval = f"{'-':>8}", "-"  # of a single episode
        if row["std"] is not None:
            low, high = row["interval"]
            spread, interval = f"{row['std']:>8.1f}", f"{low:.1f} to {high:.1f}"
        typer.echo(f"{row['policy']:<14}{row['mean']:>8.1f}{spread}   {interval}")
