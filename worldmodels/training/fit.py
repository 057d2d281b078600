"""The one fit loop: batches -> (loss, metrics), with resume, early stop and a learning-rate decay.

Every step draws its batch and its noise from a seed of its own, `(seed, step)`. A killed
training therefore resumes exactly where its checkpoint was, and ends with the same weights as
an undisturbed one.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from worldmodels.errors import UserError, reading
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.training.deferred_interrupt import deferred_interrupt
from worldmodels.training.device import device_of
from worldmodels.training.seeding import global_seed

Metrics = dict[str, float]


@runtime_checkable
class Batch(Protocol):
    """What a model learns from in one step: a tensor, sequences, start states."""

    def to(self, device: torch.device, /) -> "Batch":
        """The same on another device."""


FIRST_CHECKPOINT = 10


@dataclass(frozen=True)
class FitConfig:
    """How a model is fitted.

    Attributes:
        num_steps: optimizer steps.
        batch_size: items a step; what an item is depends on the batches.
        learning_rate: Adam's, in the first step.
        final_learning_rate: reached by a cosine at the last step; None keeps it constant.
        max_gradient_norm: gradients are scaled down to this norm, those of each of a model's
            `independent_parts` on their own; None leaves them.
        validate_every: steps between two looks at held-out data.
        patience: validations without improvement after which training stops; None never stops.
    """

    num_steps: int
    batch_size: int
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    max_gradient_norm: float | None = None
    validate_every: int = 200
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate must be above 0, got {self.learning_rate}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step `step`, counted from 0."""
        if self.final_learning_rate is None:
            return self.learning_rate
        progress = min(step / max(self.num_steps - 1, 1), 1.0)
        cosine = 0.5 * (1.0 + np.cos(np.pi * progress))
        result: float = self.final_learning_rate + cosine * (
            self.learning_rate - self.final_learning_rate
        )
        return result


@dataclass
class FitResult:
    """What a training came to: held-out metrics at each validation, and where it was best."""

    history: list[Metrics]
    best_step: int
    steps: int
    seconds: float


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator that step `step` of a training with `seed` draws from."""
    state = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state % 2**63)


def fit(
    model: nn.Module,
    batch_at: Callable[[int, torch.Generator], Batch],
    validate: Callable[[], Metrics],
    config: FitConfig,
    *,
    seed: int,
    folder: Path,
    on_step: Callable[[int, Metrics], None] = lambda step, metrics: None,
    split: Callable[[Any], Iterable[tuple[Batch, float]]] = lambda batch: [(batch, 1.0)],
    checkpoint_seconds: float = 20.0,
) -> FitResult:
    """Train `model` in place and leave it with the weights of its best validation.

    Args:
        model: has `loss(batch, generator) -> (scalar loss, named scalars worth watching)`.
        batch_at: (step, generator) -> batch on the CPU; it must depend on nothing else. `fit` moves
            each batch to the model's device.
        validate: held-out metrics of the model as it stands; `loss` decides which is best.
        folder: where the resume checkpoint lives while training runs.
        on_step: told the training metrics of each step and the held-out ones ("val/...").
        split: cuts a batch into parts, each with its weight; weights add up to 1. The gradients
            of the parts are added up before the one step of the optimizer, so that a step needs
            the memory of one part.

    Raises: UserError where the loss, or the first held-out one, is not finite; the checkpoint
        before it stays.
    """
    device = device_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    resume_path = folder / "resume.safetensors"
    progress = _Progress(model)
    if resume_path.exists():
        progress.load(resume_path, model, optimizer)
    started = time.monotonic() - progress.seconds
    saved_at = time.monotonic()

    def save() -> None:
        progress.seconds = time.monotonic() - started
        progress.save(resume_path, model, optimizer)

    with deferred_interrupt() as interrupted:
        while progress.step < config.num_steps and not progress.out_of_patience(config.patience):
            step = progress.step
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            batch = batch_at(step, step_generator(seed, 2 * step)).to(device)
            metrics = _train_step(model, optimizer, split(batch), config, seed, step)
            progress.step += 1
            on_step(progress.step, metrics)
            if progress.step % config.validate_every == 0 or progress.step == config.num_steps:
                held_out = _validate(model, validate)
                if progress.best_step == 0:  # later on there are best weights to go back to
                    _check_finite(held_out["loss"], "held-out loss", progress.step, config)
                progress.record(held_out, model)
                on_step(progress.step, {f"val/{k}": v for k, v in held_out.items()})
            # The first one early: a disk that cannot be written shows before hours are spent.
            due = time.monotonic() - saved_at > checkpoint_seconds
            if due or interrupted() or progress.step == FIRST_CHECKPOINT:
                save()
                saved_at = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
    model.load_state_dict(progress.best_weights)
    return FitResult(
        progress.history, progress.best_step, progress.step, time.monotonic() - started
    )


def _train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Iterable[tuple[Batch, float]],
    config: FitConfig,
    seed: int,
    step: int,
) -> Metrics:
    generator = step_generator(seed, 2 * step + 1, device_of(model))
    model.train()
    optimizer.zero_grad(set_to_none=True)
    totals: Metrics = {}
    # Dropout and the quantizers draw from the global generator: seed it for this step only.
    with global_seed(generator.initial_seed(), generator.device):
        for part, weight in parts:
            loss, metrics = model.loss(part, generator)  # type: ignore[operator]
            _check_finite(loss.item(), "loss", step + 1, config)
            (weight * loss).backward()
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + weight * float(value.detach())
    if config.max_gradient_norm is not None:
        # Independent parts are clipped one by one, so that each trains as it would alone.
        for part in getattr(model, "independent_parts", [model]):
            nn.utils.clip_grad_norm_(part.parameters(), config.max_gradient_norm)
    optimizer.step()
    return totals


def _check_finite(loss: float, name: str, step: int, config: FitConfig) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the {name} became {loss} at step {step}: nothing was overwritten; "
            f"the data may hold extreme values, or the preset's learning rate of "
            f"{config.learning_rate_at(step - 1):g} is too high for it"
        )


@torch.no_grad()
def _validate(model: nn.Module, validate: Callable[[], Metrics]) -> Metrics:
    model.eval()
    metrics = validate()
    model.train()
    return metrics


class _Progress:
    """Where a training stands: everything `fit` needs to go on after a kill."""

    def __init__(self, model: nn.Module) -> None:
        self.step = 0
        self.seconds = 0.0
        self.history: list[Metrics] = []
        self.best_step = 0
        self.best_loss = float("inf")
        self.best_weights = _copy(model)

    def record(self, metrics: Metrics, model: nn.Module) -> None:
        self.history.append({"step": self.step, **metrics})
        if metrics["loss"] < self.best_loss:
            self.best_loss, self.best_step = metrics["loss"], self.step
            self.best_weights = _copy(model)

    def out_of_patience(self, patience: int | None) -> bool:
        if patience is None:
            return False
        return sum(entry["step"] > self.best_step for entry in self.history) >= patience

    def save(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        save_checkpoint(
            path,
            {
                **with_prefix("model", model.state_dict()),
                **with_prefix("best", self.best_weights),
                **with_prefix("optimizer", optimizer_tensors(optimizer)),
            },
            {
                "step": self.step,
                "seconds": self.seconds,
                "history": self.history,
                "best_step": self.best_step,
                "best_loss": self.best_loss,
            },
        )

    def load(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        hint = f"delete {path} to start again"
        checkpoint = load_checkpoint(path, hint=hint)
        with reading(path, hint):
            model.load_state_dict(checkpoint.part("model"))
            self.best_weights = checkpoint.part("best")
            restore_optimizer(optimizer, checkpoint.part("optimizer"))
            for key in ("step", "seconds", "history", "best_step", "best_loss"):
                setattr(self, key, checkpoint.metadata[key])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers of its parameters, each tensor named `parameter.slot`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value for index, slots in state.items() for name, value in slots.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, for an optimizer of the same parameters.

    The optimizer itself moves them to its parameters' device; Adam's step counter stays on the CPU.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, slot = name.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def mean_metrics(parts: list[Mapping[str, float]]) -> Metrics:
    """Plain means of metrics that several batches report."""
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
