"""The command `wm elites`, which runs MAP-Elites for a planar arm and for driving controllers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import ControllerInputsOption, QuietOption, WorkerOptions

elites_app = typer.Typer(
    help="Run MAP-Elites, which can use an autoencoder of the elites.", no_args_is_help=True
)


@command(elites_app)
def arm(
    joints: Annotated[
        int, typer.Option(help="Number of joints of the arm; the paper uses 20, 200 and 1,000.")
    ] = 20,
    operator: Annotated[
        Literal["line", "vae", "vqvae"],
        typer.Option(
            help="Variation operators: line alone, or line and crossover by this autoencoder."
        ),
    ] = "line",
    bandit: Annotated[
        bool,
        typer.Option("--bandit", help="Prefer the operators that add the most elites."),
    ] = False,
    evaluations: Annotated[int, typer.Option(help="Number of evaluations.")] = 1_000_000,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; default: runs/arm-JOINTS-OPERATOR.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """Use MAP-Elites to find a pose of a planar arm for every point that the arm can reach."""
    from worldmodels.map_elites.arm import ArmConfig
    from worldmodels.progress import Report
    from worldmodels.runs.run_lock import write_lock
    from worldmodels.stages.elites_arm import search_arm

    config = ArmConfig(joints, operator, bandit, evaluations, seed=seed)
    folder = out or Path("runs") / f"arm-{joints}-{operator}{'-bandit' if bandit else ''}"
    with write_lock(folder):
        return search_arm(folder, config, Report(quiet))


@command(elites_app)
def solve(
    archive: Annotated[Path, typer.Option(help="Output folder of wm elites arm.")],
    evaluations: Annotated[
        int, typer.Option(help="Number of evaluations per target and search space.")
    ] = 5_000,
    out: Annotated[Path | None, typer.Option(help="Output folder; default: ARCHIVE-solve.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the searches.")] = 0,
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """Search for arm poses that reach targets, in an autoencoder's codes and in joint angles."""
    from worldmodels.progress import Report
    from worldmodels.runs.run_lock import write_lock
    from worldmodels.stages.elites_solve import SolveConfig, solve_targets

    config = SolveConfig(evaluations=evaluations, seed=seed)
    folder = out or archive.with_name(f"{archive.name}-solve")
    with write_lock(folder):
        return solve_targets(archive, folder, config, Report(quiet))


@dataclass(frozen=True)
class DriveOptions:
    """The options of the search by MAP-Elites."""

    evaluations: Annotated[int | None, typer.Option(help="Number of evaluations.")] = None
    episodes: Annotated[int | None, typer.Option(help="Number of episodes per controller.")] = None
    max_steps: Annotated[
        int | None, typer.Option(help="Maximum length of an episode, in env steps.")
    ] = None
    cells: Annotated[int | None, typer.Option(help="Number of cells along each measure.")] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch", help="Number of controllers per generation.")
    ] = None
    inputs: ControllerInputsOption = None


@command(elites_app)
def drive(
    options: WorkerOptions,
    search: DriveOptions,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the search; default: the seed of the run.")
    ] = None,
) -> dict[str, Any]:
    """Use MAP-Elites to find the best controller for every combination of speed and steering."""
    from worldmodels.presets import override
    from worldmodels.stages.elites_drive import DriveConfig, drive_elites

    config = override(DriveConfig(), **vars(search))
    with options.open() as session:
        return drive_elites(
            session.run, config, workers=session.workers, report=session.report, seed=seed
        )
