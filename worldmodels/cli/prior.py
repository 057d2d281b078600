"""Commands that sample frames from V, or measure surprise under the prior over V's codes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from worldmodels.cli.command import command
from worldmodels.cli.dream import StartsOption
from worldmodels.cli.options import DeviceOptions, TemperatureOption, app


@command(app)
def sample(
    options: DeviceOptions,
    prior: Annotated[
        bool,
        typer.Option("--prior", help="Sample from the prior over codes; default: z ~ N(0, 1)."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Path of the picture, .png.")] = Path("samples.png"),
    count: Annotated[int, typer.Option(help="Number of frames to sample.")] = 64,
    temperature: Annotated[
        float, typer.Option(help="Temperature of the samples; 0 gives the most likely values.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
) -> dict[str, Any]:
    """Sample new frames from V, and save them as one picture."""
    from worldmodels.runs.run_lock import write_lock_if_inside
    from worldmodels.stages.sample import SampleConfig, sample_frames

    config = SampleConfig(prior=prior, count=count, temperature=temperature, seed=seed)
    with options.open() as session, write_lock_if_inside(options.run, out):
        return session.measure(sample_frames, config, out=out)


@command(app)
def surprise(
    options: DeviceOptions,
    starts: StartsOption = 64,
    horizon: Annotated[int, typer.Option(help="Length of each dream, in agent steps.")] = 100,
    temperature: TemperatureOption = 1.0,
) -> dict[str, Any]:
    """Measure the surprise of dreamed and of real frames under the prior, in nats per frame."""
    from worldmodels.stages.surprise import SurpriseConfig, measure_surprise

    config = SurpriseConfig(starts=starts, horizon=horizon, temperature=temperature)
    with options.open() as session:
        return session.measure(measure_surprise, config)
