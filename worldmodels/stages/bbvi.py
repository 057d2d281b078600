"""BBVI: the experiments of black-box variational inference, their figures and pictures."""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worldmodels.bbvi import pictures as pictures
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
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.provenance import nonfinite_to_none
from worldmodels.runs.run_lock import write_lock

NUM_FITS = {"beta-bernoulli": 4, "gaussian": 3, "logistic": 3, "variance": 14, "binary-vae": 1}
PICTURES = ("posterior.png", "elbo.png", "variance.png", "latent.png")
HIGH_K = (
    f"k-hat above {GOOD_PARETO_K}: q misses mass that the posterior has, too narrow or not fitted "
    "yet; do not trust its spreads and tails, nor averages reweighted from its samples"
)


@dataclass(frozen=True)
class ExperimentsConfig:
    """Which experiments, and how.

    Attributes:
        num_steps: of every fit; None leaves each experiment its own number.
        only: the name of one experiment; None runs all.
        num_repeats: gradients an estimator, for their variance.
    """

    seed: int = 0
    num_steps: int | None = None
    only: str | None = None
    num_repeats: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:  # torch's generators take no larger one
            raise UserError(f"expected a seed of 0 or more and below 2**63, got {self.seed}")
        if self.num_steps is not None:
            BBVIConfig(num_steps=self.num_steps)  # the check is its own
        if self.only not in (None, *NUM_FITS):
            raise UserError(f'only must be one of {", ".join(NUM_FITS)}, got "{self.only}"')

    @property
    def names(self) -> tuple[str, ...]:
        """The experiments to run."""
        return tuple(NUM_FITS) if self.only is None else (self.only,)


def run_experiments(folder: Path, config: ExperimentsConfig, report: Report) -> dict[str, Any]:
    """Run, draw, and write result.json; what an earlier run left in `folder` is replaced.

    Ended before all is drawn, it leaves no new folder and the earlier result as it was.

    Returns: `fits`, a row each as `Fit`; further figures of the experiments; `warnings`.
    Raises: UserError, before any fit, where nothing can be written to `folder`.
    """
    _check_writable(folder)
    with write_lock(folder):
        return _run_and_write(folder, config, report)


def _run_and_write(folder: Path, config: ExperimentsConfig, report: Report) -> dict[str, Any]:
    started = time.monotonic()
    fits: list[Fit] = []
    summary: dict[str, Any] = {}
    results: dict[str, Any] = {}
    with report.progress("bbvi", total=sum(NUM_FITS[name] for name in config.names)) as meter:

        def on_fit(fit: Fit) -> None:
            fits.append(fit)
            meter.advance()

        plan = FittingPlan(config.seed, config.num_steps, on_fit)
        for name in config.names:
            results[name], summary[name] = _run(name, plan, config)
    with _replacing(folder) as partial:
        drawn = _draw(partial, results)
        result = {
            "seed": config.seed,
            "steps": config.num_steps,
            "seconds": time.monotonic() - started,
            "fits": [asdict(fit) for fit in fits],
            **{name: fact for name, fact in summary.items() if fact},
            "warnings": _warnings(fits),
            "pictures": [str(folder / path.name) for path in drawn],
        }
        result = nonfinite_to_none(result)
        (partial / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    value: dict[str, Any] = result
    return value


def _check_writable(folder: Path) -> None:
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not place.is_dir():
        raise UserError(f"{place} is a file: name a folder with --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"no permission to write in {place}: name another folder with --out")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A hidden folder whose files, once all are written, replace the earlier ones in `folder`."""
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


def _run(name: str, plan: FittingPlan, config: ExperimentsConfig) -> tuple[Any, dict[str, Any]]:
    """One experiment: what there is to draw, and its figures beside those of its fits."""
    if name == "beta-bernoulli":
        return fit_coin(plan), {}
    if name == "gaussian":
        return fit_gaussian(plan), {}
    if name == "logistic":
        logistic = fit_logistic(plan)
        return logistic, {
            "log_evidence": logistic.log_evidence,
            "standard_error": logistic.log_evidence_error,
            "r_hat": logistic.r_hat,
        }
    if name == "variance":
        comparison = compare_estimators(plan, config.num_repeats)
        return comparison, {
            "best_elbo": comparison.best_elbo,
            "log_evidence": comparison.log_evidence,
            "least_kl": comparison.log_evidence - comparison.best_elbo,
            "gradient_variance": comparison.variances,
            "cut": {where: comparison.cuts(where) for where in comparison.variances},
        }
    vae = fit_binary_vae(plan)
    names = ("elbo", "independent_pixels", "pixels_of_cluster", "accuracy", "fraction_above")
    return vae, {name: getattr(vae, name) for name in names}


def _draw(folder: Path, results: dict[str, Any]) -> list[Path]:
    """The pictures of the experiments that were run."""
    drawn = []
    posteriors = [results.get(name) for name in ("beta-bernoulli", "gaussian", "logistic")]
    if any(posteriors):
        drawn.append(folder / "posterior.png")
        pictures.save_posteriors(drawn[-1], *posteriors)
    if "variance" in results:
        drawn += [folder / "elbo.png", folder / "variance.png"]
        pictures.save_elbo_curves(drawn[-2], results["variance"])
        pictures.save_variances(drawn[-1], results["variance"])
    if "binary-vae" in results:
        drawn.append(folder / "latent.png")
        pictures.save_binary_vae(drawn[-1], results["binary-vae"])
    return drawn


def _warnings(fits: list[Fit]) -> list[str]:
    """Which fits not to believe, and why."""
    warnings = []
    above = [fit for fit in fits if fit.pareto_k > GOOD_PARETO_K]
    if above:
        named = "; ".join(f"{_name(fit)} ({fit.pareto_k:.2f})" for fit in above)
        warnings.append(f"{HIGH_K}. Here: {named}")
    diverged = [_name(fit) for fit in fits if fit.diverged]
    if diverged:
        warnings.append(f"ended early at a gradient that was not finite: {'; '.join(diverged)}")
    unjudged = [_name(fit) for fit in fits if math.isnan(fit.pareto_k)]
    if unjudged:
        warnings.append(f"no k-hat, importance weights not finite or tied: {'; '.join(unjudged)}")
    return warnings


def _name(fit: Fit) -> str:
    return f"{fit.experiment}, {fit.family}, {fit.estimator}, {fit.optimizer}"
