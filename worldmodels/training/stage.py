"""The code that training stages share: it fits a model, and writes the stage's folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from worldmodels.plotting import save_curves
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import Batch, FitConfig, FitResult, Metrics, fit
from worldmodels.training.model import Model

LOG_EVERY = 20

Config = TypeVar("Config", bound="TrainingStageConfig")


@dataclass(frozen=True, kw_only=True)
class TrainingStageConfig:
    """Settings for fitting a model in each round.

    Attributes:
        fit: settings of the fit in the first round.
        later: settings of the fit in later rounds, which continue from the earlier weights.
    """

    fit: FitConfig
    later: FitConfig

    def in_round(self, round_: int) -> FitConfig:
        """Return the settings of the fit in a round; rounds are counted from 1."""
        return self.later if round_ > 1 else self.fit

    def with_steps(self: Config, num_steps: int | None) -> Config:
        """Return a config with `num_steps` optimizer steps in every round.

        If `num_steps` is None, this config itself is returned.
        """
        if num_steps is None:
            return self
        fit, later = (replace(each, num_steps=num_steps) for each in (self.fit, self.later))
        return replace(self, fit=fit, later=later)


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """A model, the settings of the model's fit, and functions that write the results.

    Attributes:
        model, batch_at, validate, fit, seed: see `worldmodels.training.fit.fit`.
        shown: names of the metrics that the progress bar shows; TensorBoard gets all metrics.
        figures: function that returns the metrics of the trained model for result.json.
        write: function that writes the model and its pictures into the partial folder.
    """

    model: Model
    batch_at: Callable[[int, torch.Generator], Batch]
    validate: Callable[[], Metrics]
    fit: FitConfig
    seed: int
    shown: Sequence[str]
    figures: Callable[[], dict[str, Any]]
    write: Callable[[], None]

    def run(self, work: StageFolder, report: Report) -> dict[str, Any]:
        """Fit the model, write the files of the stage, and commit the stage."""
        started = time.monotonic()
        fitted = self._fit(work, report)
        self.model.eval()
        self.write()
        curve = [(entry["step"], entry["loss"]) for entry in fitted.history]
        path, curves = work.partial / "training.png", {"held-out loss": curve}
        save_curves(path, curves, x_label="optimizer step", y_label="loss")
        result = {
            **self.figures(),
            "steps": fitted.steps,
            "best_step": fitted.best_step,
            "training_seconds": round(fitted.seconds, 1),
            "history": fitted.history,
        }
        return work.commit(result, time.monotonic() - started)

    def _fit(self, work: StageFolder, report: Report) -> FitResult:
        """Fit the model, and show the metrics in a progress bar and in TensorBoard."""
        stage = work.final.name
        with (
            tensorboard(work.partial / "events") as events,
            report.progress(stage, total=self.fit.num_steps) as meter,
        ):

            def on_step(step: int, metrics: Metrics) -> None:
                meter.to(step)
                held_out = any(name.startswith("val/") for name in metrics)
                if held_out or step % LOG_EVERY == 0:
                    meter.show({name: metrics[name] for name in self.shown if name in metrics})
                    for name, value in metrics.items():
                        events.add_scalar(f"{stage}/{name}", value, step)

            return fit(
                self.model,
                self.batch_at,
                self.validate,
                self.fit,
                seed=self.seed,
                folder=work.partial,
                on_step=on_step,
            )
