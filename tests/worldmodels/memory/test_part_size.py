"""Passes over all data, or over a large batch, give the same figures part by part as at once."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import codernn, mdnrnn
from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory import AnyMemory, MemoryEnsemble, part_size
from worldmodels.memory import codernn as codernn_file
from worldmodels.memory import mdnrnn as mdnrnn_file
from worldmodels.memory import outcome as outcome_file
from worldmodels.memory.baselines import PersistenceCategorical, PersistenceGaussian
from worldmodels.memory.metrics import held_out_metrics
from worldmodels.memory.part_size import part_bytes, part_steps, split_batch
from worldmodels.training.fit import FitConfig, fit

ROWS, LENGTH = 24, 10


def memory_of(kind: str) -> AnyMemory:
    if kind == "latents":
        return mdnrnn(predict_change=True, num_latents=16)
    if kind == "ensemble":
        return MemoryEnsemble([codernn(0), codernn(1)])
    return codernn()


def data(kind: str) -> SequenceBatch:
    """Make sequences of different lengths, in which codes mostly persist."""
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(LENGTH) < torch.randint(2, LENGTH + 1, (ROWS, 1), generator=draw)
    mask[0] = True
    if kind == "latents":
        posteriors = torch.randn(ROWS, LENGTH + 1, 32, generator=draw)
    else:
        posteriors = torch.randint(6, (ROWS, LENGTH + 1, 2), generator=draw)
        posteriors = posteriors.minimum(posteriors.roll(1, 1))
    return SequenceBatch(
        posteriors,
        torch.rand(ROWS, LENGTH, 3, generator=draw),
        torch.randn(ROWS, LENGTH, generator=draw),
        torch.zeros(ROWS, LENGTH, dtype=torch.bool),
        mask,
    )


KINDS = pytest.mark.parametrize("kind", ["latents", "codes", "ensemble"])


@KINDS
def test_calibrating_part_by_part_is_calibrating_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, in_parts = memory_of(kind), memory_of(kind)
    at_once.calibrate(data(kind))
    for module in (mdnrnn_file, codernn_file, outcome_file):
        monkeypatch.setattr(module, "PART_STEPS", 3 * LENGTH)
    in_parts.calibrate(data(kind))
    before = memory_of(kind).state_dict()
    changed = 0
    for name, expected in at_once.state_dict().items():
        torch.testing.assert_close(in_parts.state_dict()[name], expected, rtol=0, atol=1e-6)
        changed += not torch.equal(expected, before[name])
    assert changed >= 3


@pytest.mark.parametrize("size", [1, 7, 500])
def test_baselines_of_parts_are_those_of_all(size: int) -> None:
    draw = torch.Generator().manual_seed(1)
    now, noise = torch.randn(400, 3, generator=draw), torch.randn(400, 3, generator=draw)
    codes = torch.randint(5, (400, 2), generator=draw)
    later = torch.where(torch.rand(400, 2, generator=draw) < 0.6, codes, codes.flip(0))

    def parts(first: Tensor, second: Tensor) -> list[tuple[Tensor, Tensor]]:
        return list(zip(first.split(size), second.split(size), strict=True))

    gaussian = PersistenceGaussian.fit([(now, now + noise)])
    again = PersistenceGaussian.fit(parts(now, now + noise))
    torch.testing.assert_close(again.sigma, gaussian.sigma, rtol=1e-6, atol=0)
    by_hand = -torch.distributions.Normal(now, gaussian.sigma).log_prob(now + noise).sum(1).mean()
    assert again.nll(parts(now, now + noise)) == pytest.approx(float(by_hand), rel=1e-5)
    categorical = PersistenceCategorical.fit([(codes, later)], 5)
    of_parts = PersistenceCategorical.fit(parts(codes, later), 5)
    torch.testing.assert_close(of_parts.persistence, categorical.persistence, rtol=0, atol=1e-7)
    torch.testing.assert_close(of_parts.frequency, categorical.frequency, rtol=0, atol=1e-7)


@KINDS
def test_the_weighted_parts_of_a_batch_have_the_gradient_of_the_whole(kind: str) -> None:
    memory, batch = memory_of(kind), data(kind)
    draw = torch.Generator()
    memory.loss(batch, draw.manual_seed(3))[0].backward()
    whole = {name: p.grad.clone() for name, p in memory.named_parameters() if p.grad is not None}
    memory.zero_grad()
    draw.manual_seed(3)
    parts = list(split_batch(memory, batch, 5 * LENGTH))
    assert [len(part) for part, _ in parts] == [5, 5, 5, 5, 4]
    assert sum(weight for _, weight in parts) == pytest.approx(1.0)
    # All members of an ensemble draw in turn, so only an M without noise repeats its draws.
    for part, weight in parts:
        (weight * memory.loss(part, draw)[0]).backward()
    for name, parameter in memory.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-6)


def sizes_of_batches(memory: AnyMemory, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the size of every batch whose loss is computed from now on."""
    sizes, loss = [], memory.loss

    def noted(batch: SequenceBatch, draw: torch.Generator | None = None) -> Any:
        sizes.append(len(batch))
        return loss(batch, draw)

    monkeypatch.setattr(memory, "loss", noted)
    return sizes


@KINDS
def test_held_out_metrics_are_taken_over_parts_that_fit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, batch = memory_of(kind).eval(), data(kind)
    sizes = sizes_of_batches(memory, monkeypatch)
    whole = held_out_metrics(memory, batch)
    assert sizes == [ROWS]
    monkeypatch.setattr(part_size, "MAX_BYTES", 4 * memory.training_floats() * 5 * LENGTH)
    in_parts = held_out_metrics(memory, batch)
    assert sizes[1:] == [5, 5, 5, 5, 4]
    assert in_parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_a_fit_over_parts_takes_the_steps_of_a_fit_over_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, fits = data("codes"), []
    for number, most in enumerate((ROWS * LENGTH, 5 * LENGTH)):
        memory = memory_of("codes")
        monkeypatch.setattr(part_size, "MAX_BYTES", 4 * memory.training_floats() * most)
        sizes = sizes_of_batches(memory, monkeypatch)
        seen: list[float | None] = []
        fit(
            memory,
            lambda step, generator: batch,
            lambda: {"loss": 0.0},
            FitConfig(3, ROWS, max_gradient_norm=1.0),
            seed=0,
            folder=tmp_path / str(number),
            on_step=lambda step, metrics: seen.append(metrics.get("loss")),  # noqa: B023
        )
        fits.append((seen[:3], copy.deepcopy(memory.state_dict())))
        assert max(sizes) == most // LENGTH
    assert fits[0][0] == pytest.approx(fits[1][0], rel=1e-5)
    for name, expected in fits[0][1].items():
        torch.testing.assert_close(fits[1][1][name], expected, rtol=1e-4, atol=1e-5)


@KINDS
def test_a_part_stays_within_the_limit_and_a_small_batch_is_whole(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, batch = memory_of(kind), data(kind)
    (only,) = split_batch(memory, batch)
    assert only == (batch, 1.0)
    monkeypatch.setattr(part_size, "MAX_BYTES", 4 * memory.training_floats() * 3 * LENGTH)
    assert part_steps(memory) == 3 * LENGTH
    assert max(len(part) for part, _ in split_batch(memory, batch)) == 3
    assert part_bytes(memory, ROWS * LENGTH, LENGTH) == part_size.MAX_BYTES
    assert part_bytes(memory, 2 * LENGTH, LENGTH) == part_size.MAX_BYTES * 2 // 3
    # A single sequence is not cut.
    assert part_bytes(memory, 100 * LENGTH, 100 * LENGTH) > part_size.MAX_BYTES
