"""What V's and M's stages share: fit with a progress bar, curves, and a commit at the end."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from worldmodels.plotting import save_curves
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import Batch, FitConfig, Metrics, fit

LOG_EVERY = 20

Config = TypeVar("Config", bound="TrainingStageConfig")


@dataclass(frozen=True, kw_only=True)
class TrainingStageConfig:
    """How often a model is fitted.

    Attributes:
        fit: the fit of the first round.
        later: the fit of rounds after it, which go on from the weights before.
    """

    fit: FitConfig
    later: FitConfig

    @classmethod
    def from_dict(cls: type[Config], summary: dict[str, Any]) -> Config:
        """The inverse of `dataclasses.asdict`, through JSON."""
        fits = {name: FitConfig(**summary[name]) for name in ("fit", "later")}
        return cls(**{**summary, **fits})

    def in_round(self, round_: int) -> FitConfig:
        """The fit of that round, counted from 1."""
        return self.later if round_ > 1 else self.fit

    def with_steps(self: Config, num_steps: int | None) -> Config:
        """The same for so many optimizer steps in every round; None changes nothing."""
        if num_steps is None:
            return self
        return replace(
            self,
            fit=replace(self.fit, num_steps=num_steps),
            later=replace(self.later, num_steps=num_steps),
        )


def fit_stage(
    model: nn.Module,
    batch_at: Callable[[int, torch.Generator], Batch],
    validate: Callable[[], Metrics],
    config: FitConfig,
    *,
    work: StageFolder,
    seed: int,
    report: Report,
    shown: Sequence[str],
    on_done: Callable[[], dict[str, Any]],
    write: Callable[[], None],
    split: Callable[[Any], Iterable[tuple[Batch, float]]] = lambda batch: [(batch, 1.0)],
) -> dict[str, Any]:
    """Fit `model`, then write artifacts and figures and commit the stage.

    Args:
        shown: metrics beside the progress bar; TensorBoard gets all of them.
        on_done: figures of the trained model, for result.json.
        write: writes the model and its pictures into the partial folder.
        split: see `fit`.
    """
    stage = work.final.name
    started = time.monotonic()
    with (
        tensorboard(work.partial / "events") as events,
        report.progress(stage, total=config.num_steps) as meter,
    ):

        def on_step(step: int, metrics: Metrics) -> None:
            meter.to(step)
            held_out = any(name.startswith("val/") for name in metrics)
            if held_out or step % LOG_EVERY == 0:
                meter.show({name: metrics[name] for name in shown if name in metrics})
                for name, value in metrics.items():
                    events.add_scalar(f"{stage}/{name}", value, step)

        fitted = fit(
            model,
            batch_at,
            validate,
            config,
            seed=seed,
            folder=work.partial,
            on_step=on_step,
            split=split,
        )
    model.eval()
    write()
    save_curves(
        work.partial / "training.png",
        {"held-out loss": [(entry["step"], entry["loss"]) for entry in fitted.history]},
        x_label="optimizer step",
        y_label="loss",
    )
    result = {
        **on_done(),
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "training_seconds": round(fitted.seconds, 1),
        "history": fitted.history,
    }
    return work.commit(result, time.monotonic() - started)
