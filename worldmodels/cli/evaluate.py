"""The commands `wm evaluate`, `wm record`, `wm play` and `wm info`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worldmodels.cli.command import command
from worldmodels.cli.env_arguments import env_arguments
from worldmodels.cli.ignored import refuse_ignored
from worldmodels.cli.options import (
    AgentOption,
    EnvArgOption,
    EnvOption,
    ObservationKeyOption,
    RunOptions,
    TemperatureOption,
    WorkerOptions,
    app,
)
from worldmodels.cli.tables import print_scores


@dataclass(frozen=True)
class EvaluationOptions:
    """The options that select the episodes, the environment and the policies of an evaluation."""

    episodes: Annotated[int, typer.Option(help="Number of episodes.")] = 100
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(help="Split of the episodes' seeds: validation or test."),
    ] = "validation"
    stock: Annotated[
        bool,
        typer.Option(
            "--stock", help="Use the slower reference environment, as reported scores require."
        ),
    ] = False
    perturbation: Annotated[
        str | None, typer.Option(help="Alter CarRacing's pictures: color, bars or blob.")
    ] = None
    baselines: Annotated[
        bool | None,
        typer.Option(help="Evaluate untrained policies too; this is the default without --stock."),
    ] = None


@command(app, show=print_scores)
def evaluate(
    options: WorkerOptions, evaluation: EvaluationOptions, agent: AgentOption = None
) -> dict[str, Any]:
    """Evaluate the agent and untrained policies on episodes that no model was trained on."""
    from worldmodels.cli.session import open_workers
    from worldmodels.runs.run import Run
    from worldmodels.stages.evaluate import EvaluateConfig, evaluate_agent, evaluate_run

    given = evaluation.baselines
    baselines = {"baselines": not evaluation.stock if given is None else given}
    config = EvaluateConfig(**vars(evaluation) | baselines)
    with open_workers(options.quiet, options.workers) as (workers, report):
        if agent is None:
            return evaluate_run(Run(options.run), config, workers=workers, report=report)
        return evaluate_agent(agent, config, workers=workers, report=report)


@dataclass(frozen=True)
class SceneOptions:
    """The options that select what a video shows."""

    dream: Annotated[bool, typer.Option("--dream", help="Record the agent in its dream.")] = False
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side", help="Show the game, V's reconstruction and the dream side by side."
        ),
    ] = False
    max_steps: Annotated[
        int | None, typer.Option(help="Maximum length of the video, in env steps.")
    ] = None
    episode: Annotated[int, typer.Option(help="Number of the validation episode to record.")] = 0
    temperature: TemperatureOption = 1.0


@command(app)
def record(
    options: RunOptions,
    scene: SceneOptions,
    agent: AgentOption = None,
    out: Annotated[Path, typer.Option(help="Path of the video, .mp4 or .gif.")] = Path("drive.mp4"),
) -> dict[str, Any]:
    """Record a video of the agent."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.runs.run_lock import write_lock_if_inside
    from worldmodels.stages.record import RecordConfig, record

    config = RecordConfig(**vars(scene))
    with write_lock_if_inside(options.run, out):
        return record(Run(options.run), out, config, report=Report(options.quiet), agent=agent)


@app.command()
def play(
    run: Annotated[Path, typer.Option(help="Folder of the run.")] = RunOptions.run,
    dream: Annotated[bool, typer.Option("--dream", help="Play in the run's dream.")] = False,
    env: EnvOption = None,
    env_arg: EnvArgOption = None,
    observation_key: ObservationKeyOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the episode.")] = 0,
) -> None:
    """Play the game, or a run's dream, with the arrow keys; Escape ends the episode."""
    from worldmodels.runs.run import Run
    from worldmodels.stages.play import chosen_env, play_dream, play_game

    if dream:
        reason = (
            "has no effect with --dream, which plays in the run's own dream: leave the option out, "
            "or add --run with a run of that env"
        )
        given = {"--env": env, "--env-arg": env_arg, "--observation-key": observation_key}
        refuse_ignored(given, reason)
        total = play_dream(Run(run), seed)
    else:
        chosen = chosen_env(Run(run), env, env_arguments(env_arg), observation_key)
        total = play_game(chosen, seed)
    typer.echo(f"return {total:.1f}")


@command(app)
def info(
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the run.")] = None,
) -> dict[str, Any]:
    """Show the installation, or, with --run, the contents, scores and stale stages of a run."""
    from worldmodels.runs.run import Run
    from worldmodels.stages.info import install_info, run_info

    return install_info() if run is None else run_info(Run(run))
