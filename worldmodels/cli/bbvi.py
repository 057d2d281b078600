"""The command `wm bbvi`, which runs the experiments of black-box variational inference."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worldmodels.cli.command import command
from worldmodels.cli.options import QuietOption, TrainStepsOption, app
from worldmodels.cli.tables import print_table

FITS = {
    "experiment": ("experiment", "s"),
    "q": ("family", "s"),
    "estimator": ("estimator", "s"),
    "optimizer": ("optimizer", "s"),
    "KL (nats)": ("kl", "z.4f"),
    "k-hat": ("pareto_k", "z.2f"),
    "seconds": ("seconds", ".1f"),
}
VARIANCES = {
    "gradient variance": ("name", "s"),
    "start": ("start", ".3g"),
    "reduction": ("start_reduction", ",.0f"),
    "end": ("end", ".3g"),
    "reduction at the end": ("end_reduction", ",.0f"),
}


def print_experiments(result: dict[str, Any]) -> None:
    """Print the fits, the gradient variances, the scores of the binary VAE, and the warnings."""
    print_table(FITS, result["fits"])
    if "variance" in result:
        summary = result["variance"]
        typer.echo(f"\nvariance: no mean-field q has a KL below {summary['least_kl']:.4f}\n")
        kinds = {"": summary["gradient_variance"], "_reduction": summary["cut"]}
        columns = {f"{at}{kind}": kinds[kind][at] for at in ("start", "end") for kind in kinds}
        print_table(
            VARIANCES,
            [
                {"name": name, **{column: values[name] for column, values in columns.items()}}
                for name in summary["gradient_variance"]["start"]
            ],
        )
    if "binary-vae" in result:
        typer.echo(
            "\nbinary-vae, nats per held-out point: ELBO {elbo:.1f}; independent pixels "
            "{independent_pixels:.1f}, given the Gaussian {pixels_of_cluster:.1f}\n"
            "{accuracy:.1%} of latents are nearest to the mean of their own Gaussian; k-hat is "
            "above 0.7 at {fraction_above:.0%} of points".format(**result["binary-vae"])
        )
    for line in result["warnings"]:
        typer.echo(f"\n{line}")
    typer.echo(f"\n{result['seconds']:.0f} s; {', '.join(result['pictures'])}")


@command(app, show=print_experiments)
def bbvi(
    out: Annotated[Path, typer.Option(help="Folder for result.json and pictures.")] = Path(
        "runs/bbvi"
    ),
    seed: Annotated[int, typer.Option(help="Seed of all fits.")] = 0,
    train_steps: TrainStepsOption = None,
    only: Annotated[
        Literal["beta-bernoulli", "gaussian", "logistic", "variance", "binary-vae"] | None,
        typer.Option(help="Run only this experiment."),
    ] = None,
    quiet: QuietOption = False,
) -> dict[str, Any]:
    """Run the experiments of black-box variational inference."""
    from worldmodels.progress import Report
    from worldmodels.stages.bbvi import ExperimentsConfig, run_experiments

    config = ExperimentsConfig(seed=seed, num_steps=train_steps, only=only)
    return run_experiments(out, config, report=Report(quiet))
