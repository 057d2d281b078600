"""The command `wm data`, which describes, exports and imports the episodes of a run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from worldmodels.cli.command import command
from worldmodels.cli.env_arguments import env_arguments
from worldmodels.cli.options import EnvArgOption, ObservationKeyOption, PresetOption, RunOptions

data_app = typer.Typer(
    help="Inspect a run's episodes; export and import Minari datasets.", no_args_is_help=True
)

DatasetOption = Annotated[str, typer.Option(help="Name of the dataset, such as racing/random-v0.")]
RootOption = Annotated[
    Path | None, typer.Option(help="Folder of Minari datasets; default: Minari's own folder.")
]


@command(data_app)
def info(
    options: RunOptions,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every episode completely to find damage.")
    ] = False,
) -> dict[str, Any]:
    """Show the number, the returns and the size of a run's episodes, and list damaged files."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.stages.data import data_info

    return data_info(Run(options.run), check=verify, report=Report(options.quiet))


@command(data_app)
def export(dataset: DatasetOption, options: RunOptions, root: RootOption = None) -> dict[str, Any]:
    """Write all episodes of a run as a Minari dataset."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.stages.data import export_data

    return export_data(Run(options.run), dataset, root, report=Report(options.quiet))


@command(data_app, "import")
def import_(
    dataset: DatasetOption,
    options: RunOptions,
    root: RootOption = None,
    env: Annotated[
        str | None,
        typer.Option(
            help="Gymnasium id of the environment; default: the id that the dataset names."
        ),
    ] = None,
    env_arg: EnvArgOption = None,
    observation_key: ObservationKeyOption = None,
    preset: PresetOption = None,
) -> dict[str, Any]:
    """Create a run from a Minari dataset whose observations are pictures."""
    from envs.config import EnvConfig
    from worldmodels.errors import UserError
    from worldmodels.presets import preset_named
    from worldmodels.progress import Report
    from worldmodels.stages.data import import_data

    arguments = env_arguments(env_arg)
    if env is None and (arguments or observation_key):
        raise UserError("--env-arg and --observation-key have no effect without --env: add --env")
    return import_data(
        options.run,
        dataset,
        root,
        preset=preset,
        check_preset=preset_named,
        env=None if env is None else EnvConfig(env, arguments or {}, observation_key),
        report=Report(options.quiet),
    )
