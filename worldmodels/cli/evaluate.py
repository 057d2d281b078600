"""Commands that look at what was made: scores, films, facts, a game of one's own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from worldmodels.cli.env_arguments import env_arguments
from worldmodels.cli.ignored import refuse_ignored
from worldmodels.cli.options import (
    DEFAULT_RUN,
    AgentOption,
    EnvArgOption,
    EnvOption,
    JsonOption,
    ObservationKeyOption,
    QuietOption,
    RunOption,
    WorkersOption,
    app,
    print_facts,
    print_result,
    print_scores,
)


@app.command()
def evaluate(
    run: RunOption = DEFAULT_RUN,
    agent: AgentOption = None,
    episodes: Annotated[int, typer.Option(help="Episodes to play.")] = 100,
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="Which tracks nobody trained on.")
    ] = "validation",
    stock: Annotated[
        bool, typer.Option("--stock", help="The env's own drawing, slow: for headline scores.")
    ] = False,
    perturbation: Annotated[
        str | None, typer.Option(help="color, bars or blob: CarRacing as nobody trained on it.")
    ] = None,
    baselines: Annotated[
        bool | None,
        typer.Option(help="Policies that know nothing beside the agent; default: unless --stock."),
    ] = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score the agent over held-out episodes, beside policies that know nothing."""
    from worldmodels.cli.session import open_workers
    from worldmodels.runs.run import Run
    from worldmodels.stages.evaluate import EvaluateConfig, evaluate_agent, evaluate_run

    config = EvaluateConfig(
        episodes=episodes,
        split=split,
        stock=stock,
        perturbation=perturbation,
        baselines=not stock if baselines is None else baselines,
    )
    with open_workers(quiet, workers) as (hands, report):
        if agent is None:
            result = evaluate_run(Run(run), config, workers=hands, report=report)
        else:
            result = evaluate_agent(agent, config, workers=hands, report=report)
        print_result(result, as_json, lambda: print_scores(result))


@app.command()
def record(
    run: RunOption = DEFAULT_RUN,
    agent: AgentOption = None,
    out: Annotated[Path, typer.Option(help="The video, .mp4 or .gif.")] = Path("drive.mp4"),
    dream: Annotated[bool, typer.Option("--dream", help="The agent in its dream.")] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Real | what V sees | M's dream.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Env steps to film, at most.")] = None,
    episode: Annotated[int, typer.Option(help="Which validation episode.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of the dream.")] = 1.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Film the agent."""
    from worldmodels.progress import Report
    from worldmodels.runs.run import Run
    from worldmodels.runs.run_lock import writing_into
    from worldmodels.stages.record import RecordConfig
    from worldmodels.stages.record import record as stage

    config = RecordConfig(
        dream=dream,
        side_by_side=side_by_side,
        max_steps=steps,
        episode=episode,
        temperature=temperature,
    )
    with writing_into(run, out):
        result = stage(Run(run), out, config, report=Report(quiet), agent=agent)
    print_result(result, as_json, lambda: print_facts(result))


@app.command()
def play(
    run: RunOption = DEFAULT_RUN,
    dream: Annotated[bool, typer.Option("--dream", help="Inside the run's dream.")] = False,
    env: EnvOption = None,
    env_arg: EnvArgOption = None,
    observation_key: ObservationKeyOption = None,
    seed: Annotated[int, typer.Option(help="Of the episode, among the training seeds.")] = 0,
) -> None:
    """Play yourself: arrow keys, in the game or in a run's dream; Escape ends it."""
    from worldmodels.runs.run import Run
    from worldmodels.stages.play import chosen_env, play_dream, play_game

    if dream:
        reason = (
            "has no effect with --dream, which plays in the run's own dream: leave it out, or add "
            "--run with a run of that env"
        )
        given = {"--env": env, "--env-arg": env_arg, "--observation-key": observation_key}
        refuse_ignored(given, reason)
        score = play_dream(Run(run), seed)
    else:
        chosen = chosen_env(Run(run), env, env_arguments(env_arg), observation_key)
        score = play_game(chosen, seed)
    typer.echo(f"score {score:.1f}")


@app.command()
def info(
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the run.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The machine and the install; of a run: what is there, settings, what is stale, scores."""
    from worldmodels.runs.run import Run
    from worldmodels.stages.info import install_facts, run_facts

    facts = install_facts() if run is None else run_facts(Run(run))
    print_result(facts, as_json, lambda: print_facts(facts))
