"""`wm data`: what a run's episodes amount to, and their way to and from Minari."""

from pathlib import Path
from typing import Annotated

import typer

from worldmodels.cli.env_arguments import env_arguments
from worldmodels.cli.options import (
    DEFAULT_RUN,
    EnvArgOption,
    JsonOption,
    ObservationKeyOption,
    PresetOption,
    QuietOption,
    RunOption,
    print_facts,
    print_result,
)

data_app = typer.Typer(
    help="A run's episodes: figures, and to and from Minari datasets.", no_args_is_help=True
)

DatasetOption = Annotated[str, typer.Option(help="Name of the Minari dataset, racing/random-v0.")]
RootOption = Annotated[
    Path | None, typer.Option(help="Folder of Minari datasets; default: Minari's own.")
]


@data_app.command()
def info(
    run: RunOption = DEFAULT_RUN,
    check: Annotated[bool, typer.Option("--check", help="Read every byte of it.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Episodes, steps, returns, bytes a frame; damaged and foreign files."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.stages.data import data_info

    facts = data_info(Run(run), check=check, report=Report(quiet))
    print_result(facts, as_json, lambda: print_facts(facts))


@data_app.command()
def export(
    dataset: DatasetOption,
    run: RunOption = DEFAULT_RUN,
    root: RootOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write all episodes of a run as a Minari dataset."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.stages.data import export_data

    result = export_data(Run(run), dataset, root, report=Report(quiet))
    print_result(result, as_json, lambda: print_facts(result))


@data_app.command("import")
def import_(
    dataset: DatasetOption,
    run: RunOption = DEFAULT_RUN,
    root: RootOption = None,
    env: Annotated[
        str | None,
        typer.Option(help="Gymnasium id, where the dataset names none, or another one."),
    ] = None,
    env_arg: EnvArgOption = None,
    observation_key: ObservationKeyOption = None,
    preset: PresetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a run of a Minari dataset: pixels, and Box or Discrete actions."""
    from envs.config import EnvConfig
    from worldmodels.errors import UserError
    from worldmodels.presets import preset_named
    from worldmodels.progress import Report
    from worldmodels.stages.data import import_data

    arguments = env_arguments(env_arg)
    if env is None and (arguments or observation_key):
        raise UserError("--env-arg and --observation-key are of another --env: add that")
    chosen = None if env is None else EnvConfig(env, arguments or {}, observation_key)
    result = import_data(
        run,
        dataset,
        root,
        preset=preset,
        check_preset=preset_named,
        env=chosen,
        report=Report(quiet),
    )
    print_result(result, as_json, lambda: print_facts(result))
