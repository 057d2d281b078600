"""Options that several commands share, and groups of these options.

The method `open` of a group opens the run that the options select.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from worldmodels.cli.session import Session

app = typer.Typer(
    help="Train agents inside their own dream. The commands collect episodes, train V, M and C, "
    "evaluate agents and record videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_RUN = Path("runs/default")

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
EnvOption = Annotated[
    str | None,
    typer.Option("--env", help="Environment of a new run: a Gymnasium id, or module:id."),
]
EnvArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env-arg", help="Argument of the env's constructor, as name=value; may be repeated."
    ),
]
ObservationKeyOption = Annotated[
    str | None,
    typer.Option(help="Key of the picture in Dict observations, or render for rendered pictures."),
]
AgentOption = Annotated[
    Path | None,
    typer.Option(
        "--agent",
        help="A run, an agent's file, or a packaged agent (carracing or carracing-quantized); "
        "default: the run's agent.",
    ),
]
PresetOption = Annotated[
    str | None, typer.Option(help="Preset of a new run: demo, cpu, study, paper or gpu.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Number of worker processes; default: one per core.")
]
DeviceOption = Annotated[str, typer.Option(help="Device of V and M: auto, cpu, cuda or mps.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print no progress and no log.")]
QuantizedOption = Annotated[
    bool, typer.Option("--quantized", help="Encode frames as codes instead of continuous latents.")
]
ControllerInputsOption = Annotated[
    str | None,
    typer.Option("--controller-inputs", help="Inputs of C: zh for z and h, or z for z alone."),
]
TrainStepsOption = Annotated[int | None, typer.Option(help="Number of optimizer steps.")]
TemperatureOption = Annotated[
    float, typer.Option(help="Temperature of the dream; dreams vary more at higher values.")
]


@dataclass(frozen=True)
class RunOptions:
    """The options of a command that works on a run."""

    run: RunOption = DEFAULT_RUN
    quiet: QuietOption = False

    def open(self) -> AbstractContextManager[Session]:
        """Open the run, its preset, workers and a report; the workers end when the context ends."""
        from worldmodels.cli.session import open_session

        return open_session(**vars(self))


@dataclass(frozen=True)
class DeviceOptions(RunOptions):
    """The options of a command that uses the run's models on a device."""

    device: DeviceOption = "auto"


@dataclass(frozen=True)
class WorkerOptions(RunOptions):
    """The options of a command that works on a run, and whose workers play episodes."""

    workers: WorkersOption = None


@dataclass(frozen=True)
class SearchOptions(DeviceOptions, WorkerOptions):
    """The options of a command that uses the run's models, and whose workers play episodes."""


@dataclass(frozen=True)
class NewRunOptions(WorkerOptions):
    """The options of a command that creates the run if needed, and whose workers play episodes."""

    env: EnvOption = None
    env_arg: EnvArgOption = None
    observation_key: ObservationKeyOption = None
    preset: PresetOption = None
    seed: Annotated[int | None, typer.Option(help="Seed of a new run.")] = None


@dataclass(frozen=True)
class PipelineOptions(DeviceOptions, NewRunOptions):
    """The options of a command that creates the run if needed, and uses its models and workers."""
