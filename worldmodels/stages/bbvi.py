"""Run the experiments of black-box variational inference, and write result.json and pictures."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worldmodels.bbvi import pictures
from worldmodels.bbvi.diagnostics import GOOD_PARETO_K
from worldmodels.bbvi.examples.binary_vae_scores import fit_binary_vae
from worldmodels.bbvi.examples.comparison import compare_estimators
from worldmodels.bbvi.examples.experiments import (
    Fit,
    FittingPlan,
    fit_coin,
    fit_gaussian,
    fit_logistic,
)
from worldmodels.bbvi.fit import BBVIConfig
from worldmodels.data.durable import sync, sync_tree
from worldmodels.errors import UserError, check_choice
from worldmodels.progress import Report
from worldmodels.runs.provenance import nonfinite_to_none
from worldmodels.runs.run_lock import write_lock

NUM_FITS = {"beta-bernoulli": 4, "gaussian": 3, "logistic": 3, "variance": 14, "binary-vae": 1}
# Metrics of these experiments that result.json holds in addition to the fits.
FIGURES = {
    "logistic": ("log_evidence", "standard_error", "r_hat"),
    "variance": ("best_elbo", "log_evidence", "least_kl", "gradient_variance", "cut"),
    "binary-vae": ("elbo", "independent_pixels", "pixels_of_cluster", "accuracy", "fraction_above"),
}
PICTURES = ("posterior.png", "elbo.png", "variance.png", "latent.png")
HIGH_K = (
    f"k-hat above {GOOD_PARETO_K}: q misses mass of the posterior, because q is too narrow or not "
    "fitted yet; do not trust the spread and the tails of q, nor averages of reweighted samples"
)


@dataclass(frozen=True)
class ExperimentsConfig:
    """Settings of the experiments.

    Attributes:
        num_steps: number of optimizer steps of every fit; None stands for the default number of
            each experiment.
        only: the name of the only experiment to run; None stands for all experiments.
        num_repeats: number of gradients that are sampled from each estimator to measure the
            variance of the gradient.
    """

    seed: int = 0
    num_steps: int | None = None
    only: str | None = None
    num_repeats: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:  # torch's generators take no larger seed
            raise UserError(f"expected a seed of at least 0 and below 2**63, got {self.seed}")
        if self.num_steps is not None:
            BBVIConfig(num_steps=self.num_steps)  # raises UserError for a wrong number
        if self.only is not None:
            check_choice("only", self.only, NUM_FITS)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the experiments to run."""
        return tuple(NUM_FITS) if self.only is None else (self.only,)


def run_experiments(folder: Path, config: ExperimentsConfig, report: Report) -> dict[str, Any]:
    """Run the experiments, and write result.json and pictures to `folder`.

    New results replace earlier results. If a call is stopped before all pictures are drawn, the
    earlier results are kept, and no new folder is left.

    Returns: a dict with `fits` (one row per `Fit`), further metrics of some experiments, and
        `warnings`.
    Raises: UserError if nothing can be written to `folder`. This is checked before the first fit.
    """
    _check_writable(folder)
    with write_lock(folder):
        return _run_and_write(folder, config, report)


def _run_and_write(folder: Path, config: ExperimentsConfig, report: Report) -> dict[str, Any]:
    started = time.monotonic()
    fits: list[Fit] = []
    fitters: dict[str, Callable[[FittingPlan], Any]] = {
        "beta-bernoulli": fit_coin,
        "gaussian": fit_gaussian,
        "logistic": fit_logistic,
        "variance": compare_estimators,
        "binary-vae": fit_binary_vae,
    }
    with report.progress("bbvi", total=sum(NUM_FITS[name] for name in config.names)) as meter:

        def on_fit(fit: Fit) -> None:
            fits.append(fit)
            meter.advance()

        plan = FittingPlan(config.seed, config.num_steps, on_fit, config.num_repeats)
        results = {name: fitters[name](plan) for name in config.names}
    with _replacing(folder) as partial:
        _draw(partial, results)
        result: dict[str, Any] = nonfinite_to_none(
            {
                "seed": config.seed,
                "steps": config.num_steps,
                "seconds": time.monotonic() - started,
                "fits": [asdict(fit) for fit in fits],
                **{
                    name: {figure: getattr(fitted, figure) for figure in FIGURES[name]}
                    for name, fitted in results.items()
                    if name in FIGURES
                },
                "warnings": _warnings(fits),
                "pictures": [str(folder / name) for name in PICTURES if (partial / name).exists()],
            }
        )
        (partial / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _check_writable(folder: Path) -> None:
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not place.is_dir():
        raise UserError(f"{place} is a file: name a folder with --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"no permission to write in {place}: name another folder with --out")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder; its files replace the files in `folder` at the end of the block."""
    partial = folder / ".bbvi.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        sync_tree(partial)
        for name in ("result.json", *PICTURES):
            if (partial / name).exists():
                os.replace(partial / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        sync(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _draw(folder: Path, results: dict[str, Any]) -> None:
    """Draw the pictures of the experiments that were run."""
    posteriors = [results.get(name) for name in ("beta-bernoulli", "gaussian", "logistic")]
    if any(posteriors):
        pictures.save_posteriors(folder / "posterior.png", *posteriors)
    if "variance" in results:
        pictures.save_elbo_curves(folder / "elbo.png", results["variance"])
        pictures.save_variances(folder / "variance.png", results["variance"])
    if "binary-vae" in results:
        pictures.save_binary_vae(folder / "latent.png", results["binary-vae"])


def _warnings(fits: list[Fit]) -> list[str]:
    """Return warnings about the fits that must not be trusted, with the reasons."""
    above = [fit for fit in fits if fit.pareto_k > GOOD_PARETO_K]
    named = "; ".join(f"{_name(fit)} ({fit.pareto_k:.2f})" for fit in above)
    diverged = "; ".join(_name(fit) for fit in fits if fit.diverged)
    unjudged = "; ".join(_name(fit) for fit in fits if math.isnan(fit.pareto_k))
    warnings = {
        f"{HIGH_K}. Affected fits: {named}": named,
        f"fits that ended early at a gradient that was not finite: {diverged}": diverged,
        f"fits without k-hat, because weights are tied or not finite: {unjudged}": unjudged,
    }
    return [warning for warning, fits_meant in warnings.items() if fits_meant]


def _name(fit: Fit) -> str:
    return f"{fit.experiment}, {fit.family}, {fit.estimator}, {fit.optimizer}"
