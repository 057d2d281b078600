"""`wm bbvi`: the experiments of black-box variational inference."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import QuietOption, TrainStepsOption, app


def print_experiments(result: dict[str, Any]) -> None:
    """A row per fit; then gradient variances, and the binary VAE beside its baselines."""
    typer.echo(
        f"{'experiment':<15}{'q':<17}{'estimator':<31}{'optimizer':<11}"
        f"{'KL (nats)':>10}{'k-hat':>7}{'seconds':>9}"
    )
    for row in result["fits"]:
        typer.echo(
            f"{row['experiment']:<15}{row['family']:<17}{row['estimator']:<31}"
            f"{row['optimizer']:<11}{_number(row['kl'], 10, 4)}{_number(row['pareto_k'], 7, 2)}"
            f"{row['seconds']:>9.1f}"
        )
    if "variance" in result:
        summary = result["variance"]
        typer.echo(
            f"\nvariance: no mean-field q has a KL below {summary['least_kl']:.4f}\n"
            f"\n{'gradient variance':<32}{'start':>10}{'cut':>9}{'end':>12}{'cut':>9}"
        )
        for name in summary["gradient_variance"]["start"]:
            typer.echo(
                f"{name:<32}"
                + "   ".join(_variance(summary, where, name) for where in ("start", "end"))
            )
    if "binary-vae" in result:
        summary = result["binary-vae"]
        typer.echo(
            f"\nbinary-vae, held out, nats per point: ELBO {summary['elbo']:.1f}; independent "
            "pixels "
            f"{summary['independent_pixels']:.1f}, told the Gaussian "
            f"{summary['pixels_of_cluster']:.1f}"
            f"\n{100 * summary['accuracy']:.1f} % of latents are nearest to their own Gaussian's; "
            f"k-hat is above 0.7 at {100 * summary['fraction_above']:.0f} % of points"
        )
    for line in result["warnings"]:
        typer.echo(f"\n{line}")
    typer.echo(f"\n{result['seconds']:.0f} s; {', '.join(result['pictures'])}")


def _variance(summary: dict[str, Any], where: str, name: str) -> str:
    variance, variance_reduction = (
        summary["gradient_variance"][where][name],
        summary["cut"][where][name],
    )
    return f"{variance:>10.3g}{f'{variance_reduction:,.0f}x':>9}"


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>z{width}.{digits}f}"


@command(app, show=print_experiments)
def bbvi(
    out: Annotated[Path, typer.Option(help="Folder for result.json and pictures.")] = Path(
        "runs/bbvi"
    ),
    seed: Annotated[int, typer.Option(help="Seed of all fits.")] = 0,
    train_steps: TrainStepsOption = None,
    only: Annotated[
        Literal["beta-bernoulli", "gaussian", "logistic", "variance", "binary-vae"] | None,
        typer.Option(help="Only this experiment."),
    ] = None,
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """Run the experiments of black-box variational inference."""
    from worldmodels.progress import Report
    from worldmodels.stages.bbvi import ExperimentsConfig, run_experiments

    config = ExperimentsConfig(seed=seed, num_steps=train_steps, only=only)
    return run_experiments(out, config, report=Report(quiet))
