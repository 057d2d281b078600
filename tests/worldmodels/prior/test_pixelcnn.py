import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodels.errors import UserError
from worldmodels.prior.baselines import (
    position_cross_entropy,
    position_entropy,
    shuffled_positions,
    unigram_cross_entropy,
)
from worldmodels.prior.pixelcnn import (
    CodePrior,
    PriorConfig,
    position_frequencies,
    prior_metadata,
    restore_prior,
)
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix


def tiny_prior(
    num_codes: int = 4, digit_sizes: tuple[int, ...] = (3,), seed: int = 0, **changes: Any
) -> CodePrior:
    """Make a prior that depends on the context, which a fresh prior hardly does."""
    torch.manual_seed(seed)
    settings = {"num_channels": 8, "num_layers": 2, "dropout": 0.0}
    model = CodePrior(PriorConfig(num_codes, digit_sizes, **{**settings, **changes}))
    with torch.no_grad():
        model.last.weight.mul_(60)
        model.log_frequency.normal_()
    return model.eval()


def all_frames(num_codes: int, num_values: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(num_values), repeat=num_codes)))


@pytest.mark.parametrize("digit_sizes", [(3,), (2, 3)])
@torch.no_grad()
def test_probabilities_of_all_frames_sum_to_one(digit_sizes: tuple[int, ...]) -> None:
    model = tiny_prior(digit_sizes=digit_sizes)
    frames = all_frames(4, math.prod(digit_sizes))
    probability = model.log_prob(frames).sum(1).exp()
    assert probability.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert probability.max() > 5 / len(frames), "as good as uniform: this shows nothing"


@pytest.mark.parametrize("num_codes", [16, 64])
@torch.no_grad()
def test_a_code_changes_nothing_before_it_and_everything_near_after_it(num_codes: int) -> None:
    model = tiny_prior(num_codes, num_layers=3)
    codes = torch.randint(3, (1, num_codes), generator=torch.Generator().manual_seed(0))
    before = model.log_prob(codes)[0]
    side = model.config.grid
    for place in range(num_codes):
        changed = codes.clone()
        changed[0, place] = (changed[0, place] + 1) % 3
        after = model.log_prob(changed)[0]
        assert torch.equal(after[:place], before[:place])
        row, column = divmod(place, side)
        moved = (after != before).view(side, side)
        assert moved[row, column + 1 : column + 2].all()
        assert moved[row + 1 : row + 2, max(column - 1, 0) : column + 2].all()


def test_no_derivative_runs_back() -> None:
    model = tiny_prior(16, num_layers=4)
    embedded = {}

    def keep(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        embedded["codes"] = output.detach().requires_grad_()
        return embedded["codes"]

    model.embeddings[0].register_forward_hook(keep)
    codes = torch.randint(3, (1, 16), generator=torch.Generator().manual_seed(0))
    for place in range(16):
        log_prob = model.log_prob(codes)[0, place]
        (gradient,) = torch.autograd.grad(log_prob, embedded["codes"])
        seen = gradient[0].abs().sum(-1).flatten() > 0
        assert not seen[place:].any()
        # Four layers reach over the whole of a 4 x 4 grid.
        assert seen[:place].all()


@torch.no_grad()
def test_samples_are_as_frequent_as_their_likelihood_says() -> None:
    model = tiny_prior(4, (2,))
    frames = all_frames(4, 2)
    count = 40_000
    drawn = model.sample(count, generator=torch.Generator().manual_seed(0))
    weights = 2 ** torch.arange(3, -1, -1)
    frequency = torch.bincount((drawn * weights).sum(1), minlength=16) / count
    expected = model.log_prob(frames).sum(1).exp()
    deviation = (expected * (1 - expected) / count).sqrt()
    assert ((frequency - expected).abs() < 4 * deviation + 1e-6).all()


@torch.no_grad()
def test_temperature_zero_takes_the_likeliest_value_of_each_code() -> None:
    model = tiny_prior(9, (2, 2))
    for temperature in (0.0, 1e-3):
        drawn = model.sample(3, temperature, torch.Generator().manual_seed(1))
        assert torch.equal(drawn, drawn[:1].expand_as(drawn))
    chosen = model.log_prob(drawn[:1])[0]
    for place in range(9):
        for value in range(4):
            other = drawn[:1].clone()
            other[0, place] = value
            assert model.log_prob(other)[0, place] <= chosen[place]


@torch.no_grad()
def test_a_temperature_sharpens_each_conditional() -> None:
    model = tiny_prior(1, (5,))
    drawn = model.sample(40_000, 0.5, torch.Generator().manual_seed(0))[:, 0]
    log_p = model.log_prob(torch.arange(5)[:, None])[:, 0]
    expected = (2 * log_p).softmax(0)
    frequency = torch.bincount(drawn, minlength=5) / 40_000
    torch.testing.assert_close(frequency, expected, atol=0.01, rtol=0)


def test_the_same_generator_draws_the_same() -> None:
    model = tiny_prior(16)
    draws = [model.sample(4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def correlated_codes(count: int = 4000) -> Tensor:
    """Make frames of 2 x 2 codes: the first row is random, and the second row copies the first."""
    generator = torch.Generator().manual_seed(0)
    first = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), count * 2, True, generator=generator)
    first = first.view(count, 2)
    return torch.cat([first, first], 1)


def test_it_begins_at_the_frequencies_and_learns_what_they_cannot_say() -> None:
    codes = correlated_codes()
    torch.manual_seed(0)
    model = CodePrior(PriorConfig(4, (3,), num_channels=8, num_layers=2, dropout=0.0))
    model.calibrate(codes)
    baseline = position_cross_entropy(codes, codes, 3)
    with torch.no_grad():
        assert model.loss(codes)[0].item() == pytest.approx(baseline, rel=0.1)
        model.last.weight.zero_()
        assert model.loss(codes)[0].item() == pytest.approx(baseline, rel=1e-5)
        model.last.weight.normal_(std=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(160):
        optimizer.zero_grad()
        loss, metrics = model.loss(codes[step % 80 * 50 :][:50])
        loss.backward()
        optimizer.step()
    assert metrics["nats_per_code"] == loss
    # Half of the codes are free, the other half follow from them.
    with torch.no_grad():
        assert model.loss(codes)[0].item() == pytest.approx(baseline / 2, rel=0.1)


def test_baselines_by_hand() -> None:
    train = torch.tensor([[0, 2], [0, 2], [1, 2]])
    held_out = torch.tensor([[0, 2], [1, 1]])
    # Counts and half a one each: position 0 holds 2.5, 1.5, 0.5 of 4.5; position 1 0.5, 0.5, 3.5.
    p = position_frequencies(train, 3)
    torch.testing.assert_close(p, torch.tensor([[2.5, 1.5, 0.5], [0.5, 0.5, 3.5]]) / 4.5)
    expected = -np.log([2.5 / 4.5, 3.5 / 4.5, 1.5 / 4.5, 0.5 / 4.5]).mean()
    assert position_cross_entropy(train, held_out, 3) == pytest.approx(expected)
    # All positions together: 2.5, 1.5, 3.5 of 7.5.
    expected = -np.log(np.array([2.5, 3.5, 1.5, 1.5]) / 7.5).mean()
    assert unigram_cross_entropy(train, held_out, 3) == pytest.approx(expected)
    assert position_entropy(held_out, 3) == pytest.approx(math.log(2))
    assert position_entropy(train, 3) == pytest.approx(0.6365 / 2, abs=1e-4)


def test_shuffled_positions_keep_each_position_and_lose_what_ties_them() -> None:
    codes = torch.stack([torch.arange(50), torch.arange(50) + 100], 1)
    drawn = shuffled_positions(codes, 2_000, torch.Generator().manual_seed(0))
    assert drawn[:, 0].max() < 50 and drawn[:, 1].min() >= 100
    same = (drawn[:, 0] + 100 == drawn[:, 1]).float().mean().item()
    assert same == pytest.approx(1 / 50, abs=0.015)


@torch.no_grad()
def test_a_round_trip_through_a_file(tmp_path: Path) -> None:
    model = tiny_prior(16, (2, 3))
    path = tmp_path / "prior.safetensors"
    metadata = {"prior": prior_metadata(model)}
    save_checkpoint(path, with_prefix("prior", model.state_dict()), metadata)
    loaded = restore_prior(load_checkpoint(path, hint=""), path)
    assert loaded.config == model.config
    codes = torch.randint(6, (5, 16))
    assert torch.equal(loaded.log_prob(codes), model.log_prob(codes))


def test_dropout_is_for_training_only() -> None:
    model = tiny_prior(16, dropout=0.5)
    codes = torch.zeros(1, 16, dtype=torch.long)
    assert torch.equal(model.log_prob(codes), model.log_prob(codes))
    model.train()
    assert not torch.equal(model.log_prob(codes), model.log_prob(codes))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="must be a square number, got 15"):
        PriorConfig(15, (3,))
    with pytest.raises(UserError, match="num_layers must be at least 1, got 0"):
        PriorConfig(16, (3,), num_layers=0)
    with pytest.raises(UserError, match=r"dropout must be at least 0 and below 1, got 1\.0"):
        PriorConfig(16, (3,), dropout=1.0)
