"""`wm elites drive`: controllers that drive each in their own way."""

from typing import Annotated

import typer

from worldmodels.cli.options import (
    DEFAULT_RUN,
    JsonOption,
    QuietOption,
    RunOption,
    WorkersOption,
    open_run_session,
    print_facts,
    print_result,
)


def drive(
    run: RunOption = DEFAULT_RUN,
    evaluations: Annotated[int | None, typer.Option(help="Controllers tried in all.")] = None,
    episodes: Annotated[int | None, typer.Option(help="Tracks each is tried on.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Env steps an episode, at most.")] = None,
    cells: Annotated[int | None, typer.Option(help="Niches along each measure.")] = None,
    batch: Annotated[int | None, typer.Option(help="Controllers a generation.")] = None,
    inputs: Annotated[str | None, typer.Option(help="What C sees: zh, or z alone.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the search and its tracks; default: the run's.")
    ] = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search C's by MAP-Elites in the real game: the best of every speed and steering."""
    from worldmodels.presets import override
    from worldmodels.stages.elites_drive import DriveConfig, drive_elites

    config = override(
        DriveConfig(),
        evaluations=evaluations,
        episodes=episodes,
        max_steps=max_steps,
        cells=cells,
        batch_size=batch,
        inputs=inputs,
    )
    with open_run_session(run, quiet, workers) as session:
        result = drive_elites(
            session.run, config, workers=session.workers, report=session.report, seed=seed
        )
        print_result(result, as_json, lambda: print_facts(result))
