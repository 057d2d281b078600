import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.fixtures.tiny_models import frames, vae, vqvae
from worldmodels.errors import UserError
from worldmodels.training.deferred_interrupt import deferred_interrupt
from worldmodels.training.fit import (
    CHECKPOINT_SECONDS,
    FitConfig,
    FitResult,
    Metrics,
    fit,
    mean_metrics,
    step_generator,
)
from worldmodels.vision import VAE, VQVAE

FRAMES = torch.from_numpy(frames(24))
CONFIG = FitConfig(
    num_steps=7,
    batch_size=8,
    learning_rate=1e-2,
    final_learning_rate=1e-3,
    max_gradient_norm=1.0,
    validate_every=3,
)


def batch_at(step: int, generator: torch.Generator) -> Tensor:
    return FRAMES[torch.randint(len(FRAMES), (8,), generator=generator)]


class Scripted(nn.Module):
    """A model of one weight, which falls by about the learning rate per step.

    The losses are given by a function of the step.
    """

    def __init__(self, losses: Callable[[int], float] = lambda step: 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.losses = losses
        self.step = 0

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.weight + self.losses(self.step)
        self.step += 1
        return loss, {"twice": 2 * loss}


def checkpoints(every_step: bool) -> AbstractContextManager[Any]:
    """Let a fit write a checkpoint after every step, or as seldom as usual."""
    seconds = -1.0 if every_step else CHECKPOINT_SECONDS
    return mock.patch("worldmodels.training.fit.CHECKPOINT_SECONDS", seconds)


def fit_scripted(
    tmp_path: Path,
    config: FitConfig,
    validate: Callable[[], Metrics],
    model: Scripted | None = None,
    *,
    every_step: bool = False,
    **options: Any,
) -> tuple[Scripted, FitResult]:
    model = model or Scripted()
    with checkpoints(every_step):
        return model, fit(
            model,
            lambda step, generator: torch.zeros(0),
            validate,
            config,
            seed=0,
            folder=tmp_path,
            **options,
        )


def fit_vision(
    model: VAE | VQVAE, folder: Path, *, every_step: bool = False, **options: Any
) -> FitResult:
    def validate() -> Metrics:
        assert not model.training
        with torch.no_grad():
            loss, _ = model.loss(FRAMES, step_generator(0, 0))
        return {"loss": loss.item()}

    with checkpoints(every_step):
        return fit(model, batch_at, validate, CONFIG, seed=3, folder=folder, **options)


MODELS: dict[str, Callable[..., VAE | VQVAE]] = {
    "vae": vae,
    "vq": lambda seed=0: vqvae("vq", seed),
    "fsq": lambda seed=0: vqvae("fsq", seed),
}


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("kill_at", [2, 5])
def test_killed_and_resumed_ends_with_the_same_bits(
    tmp_path: Path, kind: str, kill_at: int
) -> None:
    undisturbed = MODELS[kind]()
    expected = fit_vision(undisturbed, tmp_path / "a")

    def kill(step: int, metrics: Metrics) -> None:
        if step == kill_at:
            raise Killed("in the middle")

    with pytest.raises(Killed, match="in the middle"):
        fit_vision(MODELS[kind](), tmp_path / "b", every_step=True, on_step=kill)
    steps = []
    torch.manual_seed(99)  # what the global generator holds must not matter
    resumed = MODELS[kind](seed=5)  # nor what the model begins with
    result = fit_vision(
        resumed, tmp_path / "b", on_step=lambda step, metrics: steps.append((step, metrics))
    )
    assert steps[0][0] == kill_at  # the step it was killed in is done again
    assert [step for step, metrics in steps if "val/loss" in metrics] == [
        step for step in (3, 6, 7) if step >= kill_at
    ]
    state = resumed.state_dict()
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert result.history == expected.history
    assert (result.best_step, result.steps) == (expected.best_step, 7)
    assert [entry["step"] for entry in result.history] == [3, 6, 7]


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    model = vqvae("vq")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fit_vision(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_makes_the_loss_smaller(tmp_path: Path) -> None:
    model = vae()
    result = fit_vision(model, tmp_path)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_the_learning_rate_falls_by_a_cosine_from_the_first_step_to_the_last() -> None:
    config = FitConfig(num_steps=5, batch_size=1, learning_rate=1.0, final_learning_rate=0.2)
    rates = [config.learning_rate_at(step) for step in range(6)]
    expected = [1.0, 0.2 + 0.8 * (1 + 0.5**0.5) / 2, 0.6, 0.2 + 0.8 * (1 - 0.5**0.5) / 2, 0.2, 0.2]
    assert rates == pytest.approx(expected)
    assert FitConfig(num_steps=5, batch_size=1, learning_rate=0.3).learning_rate_at(4) == 0.3
    one = FitConfig(num_steps=1, batch_size=1, learning_rate=1.0, final_learning_rate=0.2)
    assert one.learning_rate_at(0) == 1.0


def test_the_optimizer_uses_that_rate(tmp_path: Path) -> None:
    config = FitConfig(num_steps=4, batch_size=1, learning_rate=1.0, final_learning_rate=0.1)
    weights = []
    model = Scripted()
    # Adam under a constant gradient moves by the learning rate.
    fit_scripted(
        tmp_path,
        config,
        lambda: {"loss": 0.0},
        model,
        on_step=lambda step, metrics: weights.append(model.weight.item()),
    )
    moves = -np.diff([0.0, *dict.fromkeys(weights)])
    assert moves == pytest.approx([config.learning_rate_at(step) for step in range(4)], rel=1e-4)


def test_early_stopping_goes_back_to_the_best_weights(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0, float("nan"), 0.5])
    model = Scripted()
    after_step = {}

    def remember(step: int, metrics: Metrics) -> None:
        after_step[step] = model.weight.item()

    config = FitConfig(num_steps=100, batch_size=1, validate_every=2, patience=2)
    _, result = fit_scripted(
        tmp_path, config, lambda: {"loss": next(losses)}, model, on_step=remember
    )
    assert (result.best_step, result.steps) == (4, 8)
    assert model.weight.item() == after_step[4] != after_step[8]
    assert [entry["step"] for entry in result.history] == [2, 4, 6, 8]


def test_the_best_weights_outlive_a_kill(tmp_path: Path) -> None:
    losses = iter([1.0, 2.0, 3.0])
    after_step = {}
    model = Scripted()

    def kill(step: int, metrics: Metrics) -> None:
        after_step[step] = model.weight.item()
        if step == 4:
            raise Killed("after the best validation")

    config = FitConfig(num_steps=6, batch_size=1, validate_every=2)
    with pytest.raises(Killed, match="after the best"):
        fit_scripted(
            tmp_path,
            config,
            lambda: {"loss": next(losses)},
            model,
            on_step=kill,
            every_step=True,
        )
    resumed, result = fit_scripted(tmp_path, config, lambda: {"loss": next(losses)})
    assert (result.best_step, result.steps) == (2, 6)
    assert resumed.weight.item() == after_step[2]


def test_without_patience_the_last_step_is_validated_and_the_best_kept(tmp_path: Path) -> None:
    losses = iter([1.0, 2.0])
    config = FitConfig(num_steps=5, batch_size=1, validate_every=4)
    _, result = fit_scripted(tmp_path, config, lambda: {"loss": next(losses)})
    assert [entry["step"] for entry in result.history] == [4, 5]
    assert result.best_step == 4


def test_a_loss_that_is_not_finite_is_named_and_the_checkpoint_before_it_stays(
    tmp_path: Path,
) -> None:
    model = Scripted(lambda step: float("inf") if step == 3 else 1.0)
    config = FitConfig(num_steps=9, batch_size=1, learning_rate=0.25)
    with pytest.raises(UserError, match=r"loss became inf at step 4, .* rate of 0\.25 is"):
        fit_scripted(tmp_path, config, lambda: {"loss": 0.0}, model, every_step=True)
    steps = []
    fit_scripted(
        tmp_path, config, lambda: {"loss": 0.0}, on_step=lambda step, metrics: steps.append(step)
    )
    assert steps[0] == 4


@pytest.mark.parametrize("pressed_at", [2, 5])
def test_ctrl_c_ends_after_the_step_with_a_checkpoint(tmp_path: Path, pressed_at: int) -> None:
    config = FitConfig(num_steps=5, batch_size=1)

    def press(step: int, metrics: Metrics) -> None:
        if step == pressed_at and "loss" in metrics:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        fit_scripted(tmp_path, config, lambda: {"loss": 0.0}, on_step=press)
    assert signal.getsignal(signal.SIGINT) is handler
    steps = []
    _, result = fit_scripted(
        tmp_path, config, lambda: {"loss": 0.0}, on_step=lambda step, metrics: steps.append(step)
    )
    assert sorted(set(steps)) == list(range(pressed_at + 1, 6))
    assert result.steps == 5


def test_outside_the_main_thread_interrupts_are_left_alone() -> None:
    answers = []

    def ask() -> None:
        with deferred_interrupt() as interrupted:
            answers.append(interrupted())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False]


def test_every_step_has_a_generator_of_its_own() -> None:
    draws = {
        float(torch.rand((), generator=step_generator(seed, step)))
        for seed in range(3)
        for step in range(50)
    }
    assert len(draws) == 150
    first, again = (torch.rand(3, generator=step_generator(1, 2)) for _ in range(2))
    assert torch.equal(first, again)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="num_steps must be at least 1, got 0"):
        FitConfig(num_steps=0, batch_size=1)
    with pytest.raises(UserError, match="learning_rate must be above 0, got -1"):
        FitConfig(num_steps=1, batch_size=1, learning_rate=-1)


def test_mean_metrics() -> None:
    assert mean_metrics([{"a": 1.0, "b": 0.0}, {"a": 3.0, "b": 4.0}]) == {"a": 2.0, "b": 2.0}


def test_ctrl_c_after_the_last_time_it_was_asked_for_is_not_lost() -> None:
    def pressed_late() -> None:
        with deferred_interrupt() as interrupted:
            assert not interrupted()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        pressed_late()
