"""The command `wm train-controller`, which searches for C by CMA-ES or by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worldmodels.cli.command import command
from worldmodels.cli.ignored import refuse_ignored
from worldmodels.cli.options import ControllerInputsOption, SearchOptions, TrainStepsOption, app
from worldmodels.cli.settings import SetOption, with_settings

if TYPE_CHECKING:
    from worldmodels.presets import Preset
    from worldmodels.runs.run import Run
    from worldmodels.stages.train_controller import ControllerStageConfig

# These texts follow the name of an option that the search in use would ignore.
CMAES_ONLY = (
    "is an option of CMA-ES, and this search uses gradients: leave the option out, or add "
    "--search cmaes"
)
GRADIENT_ONLY = (
    "is an option of the gradient search, and this search is CMA-ES: leave the option out "
    "(--generations sets the length of CMA-ES), or add --dream --search gradient"
)
DREAM_ONLY = (
    "selects the device of a dream, and this search plays the real game on CPU cores: leave the "
    "option out, or add --dream"
)
OTHER_GRADIENT = (
    "is a setting of a gradient method that this run does not use: leave the setting out, or add "
    "it for another run (PPO is for codes and for discrete actions, and pathwise is for the other "
    "runs)"
)


@dataclass(frozen=True)
class MethodOptions:
    """The options that select where and how the command searches for C."""

    dream: Annotated[bool, typer.Option("--dream", help="Search in the dream.")] = False
    search: Annotated[
        str | None, typer.Option(help="Search method: cmaes, or gradient, which needs --dream.")
    ] = None
    train_steps: TrainStepsOption = None
    horizon: Annotated[
        int | None,
        typer.Option(help="Maximum number of agent steps of a dream or of a real episode."),
    ] = None


@dataclass(frozen=True)
class CMAESOptions:
    """The options of the search by CMA-ES."""

    generations: Annotated[int | None, typer.Option(help="Number of generations of CMA-ES.")] = None
    population: Annotated[int | None, typer.Option(help="Candidates per generation.")] = None
    max_minutes: Annotated[
        float | None, typer.Option(help="Time limit of CMA-ES in minutes, excluding evaluations.")
    ] = None
    covariance: Annotated[
        Literal["full", "diagonal"] | None, typer.Option(help="Covariance that CMA-ES adapts.")
    ] = None


@dataclass(frozen=True)
class ControllerOptions:
    """The options that set the size and the inputs of C, and the C that the search starts from."""

    hidden: Annotated[
        int | None, typer.Option(help="Number of tanh units of C; 0 gives the paper's linear C.")
    ] = None
    inputs: ControllerInputsOption = None
    init_from: Annotated[
        Path | None, typer.Option(help="Run or agent file whose C the search starts from.")
    ] = None
    paper: Annotated[
        bool,
        typer.Option("--paper", help="Search for a linear C in the real game, as in the paper."),
    ] = False


@command(app)
def train_controller(
    options: SearchOptions,
    method: MethodOptions,
    cmaes: CMAESOptions,
    controller: ControllerOptions,
    settings: SetOption = None,
) -> dict[str, Any]:
    """Search for C by CMA-ES or by gradients, in the real game or (with --dream) in the dream."""
    from worldmodels.stages.train_controller import train_controller

    with options.open() as session:
        config = _config(session.preset, method, cmaes, controller)
        config = with_settings(config, settings)
        _refuse_ignored(config, session.run, method, cmaes, settings or ())
        if not config.dream and options.device not in ("auto", "cpu"):
            refuse_ignored({"--device": options.device}, DREAM_ONLY)
        return session.train(
            train_controller,
            config,
            workers=session.workers,
            start_from=controller.init_from,
            requested=_requested(config, controller, settings or ()),
        )


def _config(
    preset: Preset, method: MethodOptions, cmaes: CMAESOptions, controller: ControllerOptions
) -> ControllerStageConfig:
    from worldmodels.presets import PAPER, override

    config = (PAPER if controller.paper else preset).searching(dream=method.dream).controller
    given = vars(cmaes) | {"later_generations": cmaes.generations, "horizon": method.horizon}
    return override(
        config,
        search=method.search,
        hidden=controller.hidden,
        inputs=controller.inputs,
        cmaes=override(config.cmaes, **given),
        pathwise=config.pathwise.with_lengths(method.train_steps, method.horizon),
        ppo=config.ppo.with_lengths(method.train_steps, method.horizon),
    )


def _refuse_ignored(
    config: ControllerStageConfig,
    run: Run,
    method: MethodOptions,
    cmaes: CMAESOptions,
    settings: Sequence[str],
) -> None:
    """Raise UserError for an option or a setting that the chosen search would ignore."""
    from envs.tasks import task_for

    def given(*groups: str) -> dict[str, object]:
        return {f"--set {each}": 1 for each in settings if each.partition(".")[0] in groups}

    if config.search == "gradient":
        options = {f"--{name.replace('_', '-')}": value for name, value in vars(cmaes).items()}
        refuse_ignored({**options, **given("cmaes")}, CMAES_ONLY)
        is_ppo = run.settings.quantized or task_for(run.settings.env).action_map.discrete
        refuse_ignored(given("pathwise" if is_ppo else "ppo"), OTHER_GRADIENT)
    else:
        options = {"--train-steps": method.train_steps, **given("pathwise", "ppo")}
        refuse_ignored(options, GRADIENT_ONLY)


def _requested(
    config: ControllerStageConfig, controller: ControllerOptions, settings: Sequence[str]
) -> dict[str, Any]:
    """Return the settings of C that the user gave; the start agent must have the same settings."""
    names = {each.partition("=")[0] for each in settings}
    names |= {name for name in ("hidden", "inputs") if getattr(controller, name) is not None}
    of_controller = ("hidden", "inputs", "action_map", "sample_latent")
    chosen = (name for name in of_controller if controller.paper or name in names)
    return {name: getattr(config, name) for name in chosen}
