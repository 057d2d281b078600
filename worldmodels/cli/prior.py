"""Commands around the prior over V's codes: train it, draw from it, measure with it."""

from pathlib import Path
from typing import Annotated

import typer

from worldmodels.cli.options import (
    DEFAULT_RUN,
    DeviceOption,
    JsonOption,
    QuietOption,
    RunOption,
    app,
    open_run_session,
    print_facts,
    print_result,
)


@app.command()
def train_prior(
    run: RunOption = DEFAULT_RUN,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the prior over codes, of a run made with --quantized: which frames are likely."""
    from worldmodels.hardware import choose_device
    from worldmodels.stages.train_prior import PriorStageConfig
    from worldmodels.stages.train_prior import train_prior as stage

    with open_run_session(run, quiet) as session:
        result = stage(
            session.run,
            PriorStageConfig().with_steps(steps),
            report=session.report,
            device=choose_device(device),
            round_=session.run.round,
        )
        print_result(result, as_json, lambda: print_facts(result))


@app.command()
def sample(
    run: RunOption = DEFAULT_RUN,
    prior: Annotated[
        bool, typer.Option("--prior", help="From the prior over codes; else z ~ N(0, 1).")
    ] = False,
    out: Annotated[Path, typer.Option(help="The picture, .png.")] = Path("samples.png"),
    count: Annotated[int, typer.Option(help="Frames to draw.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 draws the likeliest only.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw frames that never were into one picture."""
    from worldmodels.hardware import choose_device
    from worldmodels.runs.run_lock import writing_into
    from worldmodels.stages.sample import SampleConfig, sample_frames

    with open_run_session(run, quiet) as session:
        config = SampleConfig(prior=prior, count=count, temperature=temperature, seed=seed)
        with writing_into(run, out):
            result = sample_frames(
                session.run, out, config, report=session.report, device=choose_device(device)
            )
        print_result(result, as_json, lambda: print_facts(result))


@app.command()
def surprise(
    run: RunOption = DEFAULT_RUN,
    starts: Annotated[int, typer.Option(help="Real moments to dream on from.")] = 64,
    decisions: Annotated[int, typer.Option(help="How far each dream goes.")] = 100,
    temperature: Annotated[float, typer.Option(help="Of the dream.")] = 1.0,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """How soon dreamed frames become unlike real ones: nats a frame under the prior."""
    from worldmodels.hardware import choose_device
    from worldmodels.stages.surprise import PlausibilityConfig, measure_plausibility

    with open_run_session(run, quiet) as session:
        config = PlausibilityConfig(starts=starts, decisions=decisions, temperature=temperature)
        result = measure_plausibility(
            session.run, config, report=session.report, device=choose_device(device)
        )
        print_result(result, as_json, lambda: print_facts(result))
