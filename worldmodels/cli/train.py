"""Commands that collect episodes, train V, M and the prior, or run all stages."""

from typing import Annotated, Any, Literal

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import (
    DeviceOptions,
    NewRunOptions,
    PipelineOptions,
    QuantizedOption,
    TrainStepsOption,
    app,
)
from worldmodels.cli.settings import SetOption, with_settings
from worldmodels.cli.tables import print_scores


@command(app, show=print_scores)
def run(
    options: PipelineOptions,
    quantized: QuantizedOption = False,
    rounds: Annotated[
        int | None,
        typer.Option(help="Number of rounds; each round collects episodes and trains V, M and C."),
    ] = None,
    env_steps: Annotated[
        int | None,
        typer.Option(help="Total number of env steps of all rounds, without the final evaluation."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Begin no further round once the rounds have taken this many minutes."),
    ] = None,
    dream: Annotated[
        bool | None,
        typer.Option(
            "--dream/--real",
            help="Train C only in the dream, or only in the real game; default: as in the preset.",
        ),
    ] = None,
) -> dict[str, Any]:
    """Run every stage for several rounds, then evaluate the agent; a stopped run is resumed."""
    from worldmodels.pipeline import run_pipeline

    with options.open() as session:
        preset = session.preset.for_env(session.run.settings.env)
        preset = preset if dream is None else preset.searching(dream=dream)
        rounds = preset.rounds if rounds is None else rounds
        return session.measure(
            run_pipeline,
            preset.with_env_steps(env_steps, rounds),
            quantized=quantized,
            rounds=rounds,
            workers=session.workers,
            minutes=minutes,
        )


@command(app)
def collect(
    options: NewRunOptions,
    episodes: Annotated[
        int | None, typer.Option(help="Total number of episodes that the run will hold.")
    ] = None,
    env_steps: Annotated[
        int | None,
        typer.Option(help="Total number of env steps that the run will hold, in whole episodes."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="Policy that plays: exploring, random, brownian, agent or elites."),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Maximum length of an episode, in env steps.")
    ] = None,
    select_by_surprise: Annotated[
        bool,
        typer.Option(
            "--select-by-surprise", help="Keep only the most surprising of every three episodes."
        ),
    ] = False,
) -> dict[str, Any]:
    """Play episodes with a policy, and store the episodes."""
    from worldmodels.presets import override
    from worldmodels.stages.collect import collect

    with options.open() as session:
        preset = session.preset.for_env(session.run.settings.env)
        config = override(
            preset.collect.limited(episodes, env_steps),
            policy=policy,
            max_episode_steps=max_steps,
            select_by_surprise=select_by_surprise,
        )
        return collect(
            session.run,
            config,
            workers=session.workers,
            report=session.report,
            round_=session.run.round,
        )


@command(app)
def train_vision(
    options: DeviceOptions,
    quantized: QuantizedOption = False,
    estimator: Annotated[
        Literal["score", "straight-through"] | None,
        typer.Option(
            help="With --quantized: train categorical codes with this gradient estimator."
        ),
    ] = None,
    train_steps: TrainStepsOption = None,
    settings: SetOption = None,
) -> dict[str, Any]:
    """Train V, which encodes frames as continuous latents, or as codes if --quantized is given."""
    from worldmodels.stages.train_vision import train_vision

    with options.open() as session:
        chosen = estimator or (session.run.estimator if quantized else None)
        config = session.preset.vision(quantized, chosen).with_steps(train_steps)
        return session.train(train_vision, with_settings(config, settings))


@command(app)
def train_memory(
    options: DeviceOptions,
    train_steps: TrainStepsOption = None,
    ensemble_size: Annotated[
        int | None,
        typer.Option(help="Number of models in M; several models form an ensemble."),
    ] = None,
    settings: SetOption = None,
) -> dict[str, Any]:
    """Train M, which predicts the next latent, the reward and the end of the episode."""
    from worldmodels.presets import override
    from worldmodels.stages.train_memory import train_memory

    with options.open() as session:
        config = override(session.preset.memory, ensemble_size=ensemble_size).with_steps(
            train_steps
        )
        return session.train(train_memory, with_settings(config, settings))


@command(app)
def train_prior(
    options: DeviceOptions, train_steps: TrainStepsOption = None, settings: SetOption = None
) -> dict[str, Any]:
    """Train the prior over V's codes, in a run whose V was trained with --quantized."""
    from worldmodels.stages.train_prior import PriorStageConfig, train_prior

    with options.open() as session:
        config = with_settings(PriorStageConfig().with_steps(train_steps), settings)
        return session.train(train_prior, config)
