"""The fit loop that trains every model, with resume, early stopping and learning-rate decay.

The batch and the noise of a step are drawn with seeds that depend only on the seed of the training
and on the number of the step. A killed training therefore resumes from its last checkpoint and ends
with the same weights as an uninterrupted training.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from worldmodels.errors import UserError, check_above_zero, check_at_least, reading
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.training.deferred_interrupt import deferred_interrupt
from worldmodels.training.device import device_of
from worldmodels.training.model import Model
from worldmodels.training.seeding import global_seed

Metrics = dict[str, float]


@runtime_checkable
class Batch(Protocol):
    """The training data of one step: a tensor, sequences, or start states."""

    def to(self, device: torch.device, /) -> "Batch":
        """Return the same batch on another device."""


FIRST_CHECKPOINT = 10  # the step after which the first checkpoint is written
CHECKPOINT_SECONDS = 20.0  # seconds between two checkpoints


@dataclass(frozen=True)
class FitConfig:
    """Settings for fitting a model.

    Attributes:
        num_steps: number of optimizer steps.
        batch_size: number of items per step; the model determines what an item is, for example a
            frame.
        learning_rate: Adam's learning rate in the first step.
        final_learning_rate: learning rate in the last step, which is reached by a cosine decay;
            None stands for a constant learning rate.
        max_gradient_norm: largest norm of the gradient. A larger gradient is scaled down to this
            norm, separately for each of the model's `independent_parts`. None stands for no
            scaling.
        validate_every: number of steps between two validations on held-out data.
        patience: number of validations without improvement after which training stops; None stands
            for no early stopping.
    """

    num_steps: int
    batch_size: int
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    max_gradient_norm: float | None = None
    validate_every: int = 200
    patience: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, self, "num_steps", "batch_size", "validate_every")
        check_above_zero(self, "learning_rate")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of step `step`; steps are counted from 0."""
        if self.final_learning_rate is None:
            return self.learning_rate
        progress = min(step / max(self.num_steps - 1, 1), 1.0)
        cosine = 0.5 * (1.0 + float(np.cos(np.pi * progress)))
        last = self.final_learning_rate
        return last + cosine * (self.learning_rate - last)


@dataclass
class FitResult:
    """The result of a training, with the held-out metrics of each validation and the best step."""

    history: list[Metrics]
    best_step: int
    steps: int
    seconds: float


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the random generator of step `step` in a training with the seed `seed`."""
    state = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state % 2**63)


def fit(
    model: Model,
    batch_at: Callable[[int, torch.Generator], Batch],
    validate: Callable[[], Metrics],
    config: FitConfig,
    *,
    seed: int,
    folder: Path,
    on_step: Callable[[int, Metrics], None] = lambda step, metrics: None,
) -> FitResult:
    """Train `model` in place, and load the weights with the lowest held-out loss at the end.

    If the model has a method `split`, each batch is cut into parts. The gradients of the parts are
    added up before the optimizer step, so that a step needs only the memory for one part.

    Args:
        batch_at: function (step, generator) -> batch on the CPU. The batch must depend on these two
            arguments alone. `fit` moves each batch to the model's device.
        validate: function that returns held-out metrics of the current model. The weights with the
            lowest `loss` among these metrics are the best weights.
        folder: folder of the checkpoint from which a killed training resumes.
        on_step: function (step, metrics) that is called with the training metrics of each step, and
            with the held-out metrics of each validation. The names of held-out metrics begin with
            "val/".

    Raises: UserError if a training loss or the first held-out loss is not finite. The last
        checkpoint is kept in this case.
    """
    device = device_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    progress = _Progress(model, optimizer, folder / "resume.safetensors")
    with deferred_interrupt() as interrupted:
        while progress.step < config.num_steps and not progress.out_of_patience(config.patience):
            step = progress.step
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            batch = batch_at(step, step_generator(seed, 2 * step)).to(device)
            generator = step_generator(seed, 2 * step + 1, device)
            metrics = _train_step(model, optimizer, batch, config, generator, step)
            progress.step += 1
            on_step(progress.step, metrics)
            if progress.step % config.validate_every == 0 or progress.step == config.num_steps:
                model.eval()
                with torch.no_grad():
                    held_out = validate()
                if progress.best_step == 0:  # later on there are best weights to go back to
                    _check_finite(held_out["loss"], "held-out loss", progress.step, config)
                progress.record(held_out)
                on_step(progress.step, {f"val/{k}": v for k, v in held_out.items()})
            stop = interrupted()
            # The first checkpoint comes early, so that a disk that cannot be written raises an
            # error before hours are spent.
            is_due = time.monotonic() - progress.saved_at > CHECKPOINT_SECONDS
            if stop or is_due or progress.step == FIRST_CHECKPOINT:
                progress.save()
            if stop:
                raise KeyboardInterrupt
    model.load_state_dict(progress.best_weights)
    return FitResult(progress.history, progress.best_step, progress.step, progress.seconds)


def _train_step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: FitConfig,
    generator: torch.Generator,
    step: int,
) -> Metrics:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    split = getattr(model, "split", None)
    totals: Metrics = {}
    # Dropout and the quantizers draw from the global generator: seed it for this step only.
    with global_seed(generator.initial_seed(), generator.device):
        for part, weight in [(batch, 1.0)] if split is None else split(batch):
            loss, metrics = model.loss(part, generator)
            _check_finite(loss.item(), "loss", step + 1, config)
            (weight * loss).backward()
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + weight * float(value.detach())
    if config.max_gradient_norm is not None:
        # Independent parts are clipped separately, so that each trains as it would alone.
        for independent in getattr(model, "independent_parts", [model]):
            nn.utils.clip_grad_norm_(independent.parameters(), config.max_gradient_norm)
    optimizer.step()
    return totals


def _check_finite(loss: float, name: str, step: int, config: FitConfig) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the {name} became {loss} at step {step}, and no result was overwritten: "
            f"the data may hold extreme values, or the preset's learning rate of "
            f"{config.learning_rate_at(step - 1):g} is too high for the data"
        )


class _Progress:
    """The state of a training: everything that `fit` needs to continue after a kill."""

    SAVED = ("step", "seconds", "history", "best_step", "best_loss")

    def __init__(self, model: Model, optimizer: torch.optim.Optimizer, path: Path) -> None:
        self.model, self.optimizer, self.path = model, optimizer, path
        self.step, self.best_step, self.best_loss = 0, 0, float("inf")
        self.history: list[Metrics] = []
        self.best_weights = copy.deepcopy(model.state_dict())
        self.earlier_seconds = 0.0
        if path.exists():
            self._load()
        self.started = self.saved_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds of training so far, including the seconds before the training was resumed."""
        return self.earlier_seconds + time.monotonic() - self.started

    def record(self, metrics: Metrics) -> None:
        self.history.append({"step": self.step, **metrics})
        if metrics["loss"] < self.best_loss:
            self.best_loss, self.best_step = metrics["loss"], self.step
            self.best_weights = copy.deepcopy(self.model.state_dict())

    def out_of_patience(self, patience: int | None) -> bool:
        without_improvement = sum(entry["step"] > self.best_step for entry in self.history)
        return patience is not None and without_improvement >= patience

    def save(self) -> None:
        tensors = {
            **with_prefix("model", self.model.state_dict()),
            **with_prefix("best", self.best_weights),
            **with_prefix("optimizer", optimizer_tensors(self.optimizer)),
        }
        save_checkpoint(self.path, tensors, {name: getattr(self, name) for name in self.SAVED})
        self.saved_at = time.monotonic()

    def _load(self) -> None:
        hint = f"delete {self.path} to start again"
        checkpoint = load_checkpoint(self.path, hint=hint)
        with reading(self.path, hint):
            self.model.load_state_dict(checkpoint.part("model"))
            self.best_weights = checkpoint.part("best")
            restore_optimizer(self.optimizer, checkpoint.part("optimizer"))
            saved = {name: checkpoint.metadata[name] for name in self.SAVED}
            self.earlier_seconds = saved.pop("seconds")
            vars(self).update(saved)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer as a dict of tensors with the names `parameter.slot`.

    `parameter` is the index of a parameter, and `slot` is the name of a tensor of the optimizer.
    """
    tensors = {}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors.update(with_prefix(str(index), slots))
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors of `optimizer_tensors` into an optimizer of the same parameters.

    The optimizer moves the tensors to the device of the parameters. Adam's step counter stays on
    the CPU.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, slot = name.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def mean_metrics(parts: list[Mapping[str, float]]) -> Metrics:
    """Return the unweighted mean of each metric over several batches."""
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
