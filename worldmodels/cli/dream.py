"""Commands that evaluate M, record a dream, and compare dreams with the game."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import (
    AgentOption,
    DeviceOptions,
    RunOptions,
    SearchOptions,
    TemperatureOption,
    app,
)

StartsOption = Annotated[int, typer.Option(help="Number of real states at which dreams start.")]
SamplesOption = Annotated[int, typer.Option(help="Number of dreams per start state.")]


@dataclass(frozen=True)
class ActorOptions:
    """The options that select the actions of a dream."""

    agent: AgentOption = None
    policy: Annotated[
        str | None, typer.Option(help="Policy that acts instead of the agent, such as random.")
    ] = None
    actions: Annotated[
        Path | None, typer.Option(help="File (.npy) of actions to execute, (agent steps, A).")
    ] = None


@command(app)
def evaluate_memory(
    options: DeviceOptions,
    horizon: Annotated[
        int | None,
        typer.Option(
            help="Length of the dreams, in env steps; default: 100, or less for short episodes."
        ),
    ] = None,
    starts: StartsOption = 64,
    samples: SamplesOption = 16,
    temperature: TemperatureOption = 1.0,
) -> dict[str, Any]:
    """Compare M with baselines, and compare M's dreams with real frames, on held-out episodes."""
    from worldmodels.stages.evaluate_memory import EvaluateMemoryConfig, evaluate_memory

    config = EvaluateMemoryConfig(horizon, starts, samples, temperature)
    with options.open() as session:
        return session.measure(evaluate_memory, config)


@command(app)
def dream(
    options: RunOptions,
    actor: ActorOptions,
    out: Annotated[Path, typer.Option(help="Path of the video, .mp4 or .gif.")] = Path("dream.mp4"),
    horizon: Annotated[
        int, typer.Option(help="Maximum length of the video, in agent steps.")
    ] = 250,
    temperature: TemperatureOption = 1.0,
    episode: Annotated[
        int, typer.Option(help="Number of the validation episode in which the dream starts.")
    ] = 0,
) -> dict[str, Any]:
    """Record a video of a dream whose actions come from the agent, from a policy or from a file."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.runs.run_lock import write_lock_if_inside
    from worldmodels.stages.dream import DreamVideoConfig, record_dream

    config = DreamVideoConfig(
        horizon=horizon, temperature=temperature, episode=episode, **vars(actor)
    )
    with write_lock_if_inside(options.run, out):
        return record_dream(Run(options.run), out, config, report=Report(options.quiet))


@dataclass(frozen=True)
class ComparisonOptions:
    """The options that select the agents, the episodes and the dreams of a comparison."""

    agents: Annotated[
        int, typer.Option(help="Number of agents: the run's own agent and noisy copies of it.")
    ] = 12
    episodes: Annotated[int, typer.Option(help="Number of real episodes per agent.")] = 4
    starts: StartsOption = 256
    samples: SamplesOption = 8
    good: Annotated[
        float | None,
        typer.Option(
            "--good-return",
            help="Lowest score of an agent that counts as good; default: half of the best score.",
        ),
    ] = None
    temperature: TemperatureOption = 1.0


@command(app)
def dream_check(options: SearchOptions, comparison: ComparisonOptions) -> dict[str, Any]:
    """Compare the returns of agents in the dream with their returns in the real game."""
    from worldmodels.stages.dream_check import DreamCheckConfig, dream_check

    config = DreamCheckConfig(**vars(comparison))
    with options.open() as session:
        return session.measure(dream_check, config, workers=session.workers)
