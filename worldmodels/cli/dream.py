"""Commands around M and its dreams: what M is worth, a film, dream against game."""

from pathlib import Path
from typing import Annotated

import typer

from worldmodels.cli.options import (
    DEFAULT_RUN,
    AgentOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    RunOption,
    WorkersOption,
    app,
    open_run_session,
    print_facts,
    print_result,
)

TemperatureOption = Annotated[float, typer.Option(help="Of the dream; above 1 less certain.")]


@app.command()
def evaluate_memory(
    run: RunOption = DEFAULT_RUN,
    steps: Annotated[int, typer.Option(help="Env steps the dreams go on for.")] = 100,
    starts: Annotated[int, typer.Option(help="Real moments to dream on from.")] = 64,
    samples: Annotated[int, typer.Option(help="Dreams from each moment.")] = 16,
    temperature: TemperatureOption = 1.0,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Held-out nats of M beside two baselines, and its dreams beside what happened."""
    from worldmodels.hardware import choose_device
    from worldmodels.stages.evaluate_memory import EvaluateMemoryConfig
    from worldmodels.stages.evaluate_memory import evaluate_memory as stage

    with open_run_session(run, quiet) as session:
        config = EvaluateMemoryConfig(
            steps=steps, starts=starts, samples=samples, temperature=temperature
        )
        result = stage(
            session.run,
            config,
            report=session.report,
            device=choose_device(device),
        )
        print_result(result, as_json, lambda: print_facts(result))


@app.command()
def dream(
    run: RunOption = DEFAULT_RUN,
    out: Annotated[Path, typer.Option(help="The video, .mp4 or .gif.")] = Path("dream.mp4"),
    decisions: Annotated[int, typer.Option(help="To film, at most.")] = 250,
    temperature: TemperatureOption = 1.0,
    agent: AgentOption = None,
    policy: Annotated[
        str | None, typer.Option(help="Acts instead: exploring, random, brownian, ...")
    ] = None,
    actions: Annotated[
        Path | None, typer.Option(help="Taken instead: a .npy of shape (decisions, A).")
    ] = None,
    episode: Annotated[int, typer.Option(help="Validation episode it begins in.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Film a dream, under the actions of an agent, a policy or a file."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.runs.run_lock import writing_into
    from worldmodels.stages.dream import DreamVideoConfig, film_dream

    config = DreamVideoConfig(
        decisions=decisions,
        temperature=temperature,
        agent=agent,
        policy=policy,
        actions=actions,
        episode=episode,
    )
    with writing_into(run, out):
        result = film_dream(Run(run), out, config, report=Report(quiet))
    print_result(result, as_json, lambda: print_facts(result))


@app.command()
def dream_check(
    run: RunOption = DEFAULT_RUN,
    agents: Annotated[int, typer.Option(help="The run's own, and noisier copies of it.")] = 12,
    episodes: Annotated[int, typer.Option(help="Real ones an agent.")] = 4,
    starts: Annotated[int, typer.Option(help="Moments an agent dreams on from.")] = 256,
    samples: Annotated[int, typer.Option(help="Dreams from each moment.")] = 8,
    good: Annotated[
        float | None, typer.Option(help="Score of a good agent; half of the best's if not given.")
    ] = None,
    temperature: TemperatureOption = 1.0,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """What agents earn in the dream beside what they earn in the game, moment by moment."""
    from worldmodels.hardware import choose_device
    from worldmodels.stages.dream_check import DreamCheckConfig
    from worldmodels.stages.dream_check import dream_check as stage

    with open_run_session(run, quiet, workers) as session:
        config = DreamCheckConfig(
            agents=agents,
            episodes=episodes,
            starts=starts,
            samples=samples,
            temperature=temperature,
            good=good,
        )
        result = stage(
            session.run,
            config,
            workers=session.workers,
            report=session.report,
            device=choose_device(device),
        )
        print_result(result, as_json, lambda: print_facts(result))
