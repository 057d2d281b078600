"""`wm elites`: MAP-Elites that discovers representations, on the arm and in driving."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from worldmodels.cli.elites_drive import drive
from worldmodels.cli.options import JsonOption, QuietOption, print_facts, print_result

elites_app = typer.Typer(
    help="MAP-Elites: diverse elites, and an autoencoder of what they share.",
    no_args_is_help=True,
)


@elites_app.command()
def arm(
    joints: Annotated[int, typer.Option(help="Of the arm; the paper has 20, 200, 1000.")] = 20,
    operator: Annotated[
        Literal["line", "vae", "vqvae"],
        typer.Option(help="Lines between elites; or crossover by a model trained on them, too."),
    ] = "line",
    bandit: Annotated[
        bool, typer.Option("--bandit", help="Mix operators as they lately paid.")
    ] = False,
    evaluations: Annotated[int, typer.Option(help="Arms to try in all.")] = 1_000_000,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: runs/arm-JOINTS-OPERATOR.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fill an archive of arms whose ends are in all places, with joints as alike as can be."""
    from worldmodels.map_elites.arm import ArmConfig
    from worldmodels.progress import Report
    from worldmodels.runs.run_lock import writing
    from worldmodels.stages.elites_arm import search_arm

    config = ArmConfig(
        joints=joints, operator=operator, bandit=bandit, evaluations=evaluations, seed=seed
    )
    name = f"arm-{joints}-{operator}{'-bandit' if bandit else ''}"
    folder = out or Path("runs") / name
    with writing(folder):
        result = search_arm(folder, config, Report(quiet))
    print_result(result, as_json, lambda: print_facts(result))


@elites_app.command()
def solve(
    archive: Annotated[Path, typer.Option(help="Folder that wm elites arm left.")],
    evaluations: Annotated[int, typer.Option(help="A target, in each space.")] = 5_000,
    out: Annotated[Path | None, typer.Option(help="Folder; default: ARCHIVE-solve.")] = None,
    seed: Annotated[int, typer.Option(help="Of the searches.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search targets by CMA-ES in the code space of an archive's model, and directly."""
    from worldmodels.progress import Report
    from worldmodels.runs.run_lock import writing
    from worldmodels.stages.elites_solve import SolveConfig, solve_targets

    config = SolveConfig(evaluations=evaluations, seed=seed)
    target = out or archive.with_name(f"{archive.name}-solve")
    with writing(target):
        result = solve_targets(archive, target, config, Report(quiet))
    print_result(result, as_json, lambda: print_facts(result))


elites_app.command()(drive)
