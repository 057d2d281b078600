"""`wm train-controller`: the search for C, by CMA-ES or by gradients."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worldmodels.cli.command import command
from worldmodels.cli.ignored import refuse_ignored
from worldmodels.cli.options import SearchOptions, TrainStepsOption, app
from worldmodels.cli.settings import SetOption, with_settings

# After the name of an option that the search in use would ignore.
CMAES_ONLY = (
    "is an option of CMA-ES, and this search follows gradients: leave it out, or add --search cmaes"
)
GRADIENT_ONLY = (
    "is an option of the gradient search, and this search is CMA-ES: leave it out (--generations "
    "is the length of CMA-ES), or add --dream --search gradient"
)
DREAM_ONLY = (
    "selects the device of a dream, and this search plays the real game on CPU cores: leave it "
    "out, or add --dream"
)
GRADIENT_GROUPS = ("pathwise", "ppo")


@command(app)
def train_controller(
    options: SearchOptions,
    dream: Annotated[bool, typer.Option("--dream", help="Search in the dream.")] = False,
    search: Annotated[
        str | None, typer.Option(help="cmaes, or gradient: through the dream.")
    ] = None,
    train_steps: TrainStepsOption = None,
    generations: Annotated[int | None, typer.Option(help="Generations of CMA-ES.")] = None,
    population: Annotated[int | None, typer.Option(help="Candidates per generation.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="End CMA-ES after so long, evaluations not counted.")
    ] = None,
    covariance: Annotated[
        Literal["full", "diagonal"] | None, typer.Option(help="What CMA-ES adapts.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Agent steps of a dream, and at most of an episode.")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Tanh units of C; 0 is the paper's linear C.")
    ] = None,
    controller_inputs: Annotated[
        str | None, typer.Option(help="Inputs of C: zh, or z alone.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="A run or agent file to search on from.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="As in the paper: linear C, real game, 1,800 x 64 x 16.")
    ] = False,
    settings: SetOption = None,
) -> dict[str, Any]:  # each is an option of the command
    """Search C by CMA-ES, in the real game or with --dream inside M; or by gradients."""
    from worldmodels.hardware import choose_device
    from worldmodels.presets import PAPER, override
    from worldmodels.stages.train_controller import train_controller

    with options.open() as session:
        preset = (PAPER if paper else session.preset).searching(dream=dream).controller
        config = override(
            preset,
            search=search,
            hidden=hidden,
            inputs=controller_inputs,
            cmaes=override(
                preset.cmaes,
                generations=generations,
                later_generations=generations,
                max_minutes=max_minutes,
                population=population,
                diagonal=None if covariance is None else covariance == "diagonal",
                horizon=horizon,
            ),
            pathwise=preset.pathwise.with_lengths(train_steps, horizon),
            ppo=preset.ppo.with_lengths(train_steps, horizon),
        )
        config = with_settings(config, settings)
        groups = {f"--set {text}": text.partition(".")[0] for text in settings or ()}
        if config.search == "gradient":
            given = {
                "--generations": generations,
                "--population": population,
                "--max-minutes": max_minutes,
                "--covariance": covariance,
                **{name: group if group == "cmaes" else None for name, group in groups.items()},
            }
            refuse_ignored(given, CMAES_ONLY)
        else:
            of_gradient = {n: g if g in GRADIENT_GROUPS else None for n, g in groups.items()}
            refuse_ignored({"--train-steps": train_steps, **of_gradient}, GRADIENT_ONLY)
        if not config.dream and options.device not in ("auto", "cpu"):
            refuse_ignored({"--device": options.device}, DREAM_ONLY)
        requested = {"hidden": hidden, "inputs": controller_inputs}
        if paper:
            names = ("hidden", "inputs", "action_map", "sample_latent")
            requested = {name: getattr(config, name) for name in names}
        return train_controller(
            session.run,
            config,
            workers=session.workers,
            report=session.report,
            device=choose_device(options.device),
            round_=session.run.round,
            start_from=init_from,
            requested={name: value for name, value in requested.items() if value is not None},
        )
