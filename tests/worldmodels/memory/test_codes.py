from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.frequencies import check_frequencies
from worldmodels.memory.codes import from_digits, log_sum_exp, sample_categorical, to_digits
from worldmodels.memory.noise import shared_noise

SMALL, LARGE = (2, 7, 32, 33), (64, 256)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_digits_and_codes_are_inverse_and_the_first_digit_is_the_fastest() -> None:
    codes = torch.arange(2 * 3 * 4).reshape(4, 6)
    digits = to_digits(codes, (2, 3, 4))
    assert torch.equal(from_digits(digits, (2, 3, 4)), codes)
    assert digits[0, :4].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert torch.equal(digits.flatten(0, 1).amax(0), torch.tensor([1, 2, 3]))
    assert len(digits.flatten(0, 1).unique(dim=0)) == 24


@pytest.mark.parametrize("num_values", [*SMALL, *LARGE])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_values_come_as_often_as_their_logits_say(num_values: int, temperature: float) -> None:
    logits = torch.randn(num_values, generator=draw(num_values)) + 20.0
    drawn = sample_categorical(logits.expand(60_000, -1), temperature, draw(0))
    check_frequencies(drawn, (logits / temperature).softmax(-1))


@pytest.mark.parametrize("num_values", [7, 64])
def test_each_row_is_drawn_from_its_own_logits(num_values: int) -> None:
    logits = 0.7 * torch.randn(3, 2, num_values, generator=draw(1))
    drawn = sample_categorical(logits.expand(10_000, 3, 2, -1), 1.0, draw(0))
    assert drawn.shape == (10_000, 3, 2)
    for row in range(3):
        for column in range(2):
            check_frequencies(drawn[:, row, column], logits[row, column].softmax(-1))
    # Independently: which value one row takes says nothing about the next row's.
    pairs = drawn[:, 0, 0] * num_values + drawn[:, 0, 1]
    joint = logits[0, 0].softmax(-1)[:, None] * logits[0, 1].softmax(-1)
    few = torch.bincount(pairs, minlength=num_values**2).double() / 10_000
    assert (few - joint.flatten().double()).abs().max() < 0.01


@pytest.mark.parametrize("num_values", [5, 64, 256])
def test_a_value_of_no_probability_never_comes_whatever_the_noise(
    num_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise includes the lowest and the highest number that torch.rand may return."""
    ends = [0.0, 2.0**-24, 0.5, 1.0 - 2.0**-23, 1.0 - 2.0**-24]

    def rand(*shape: Any, **settings: Any) -> Tensor:
        noise = real(*shape, **settings)
        noise.view(-1)[: len(ends)] = torch.tensor(ends)
        return noise

    real = torch.rand
    monkeypatch.setattr(torch, "rand", rand)
    generator = draw(2)
    for _ in range(100):
        possible = real(num_values, generator=generator) < 0.1
        if not possible.any():
            continue
        logits = torch.randn(num_values, generator=generator).masked_fill(~possible, -1e4)
        drawn = sample_categorical(logits.expand(500, -1), 1.0, generator)
        assert possible[drawn].all()


@pytest.mark.parametrize("num_values", [1, 5, 64])
def test_temperature_zero_takes_the_largest_and_draws_no_noise(num_values: int) -> None:
    logits = torch.randn(6, num_values, generator=draw(3))
    generator = draw(0)
    before = generator.get_state()
    assert torch.equal(sample_categorical(logits, 0.0, generator), logits.argmax(-1))
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(sample_categorical(logits, 1e-4, generator), logits.argmax(-1))


@pytest.mark.parametrize("num_values", [5, 64])
def test_draws_repeat_with_the_generator_and_copies_share_them(num_values: int) -> None:
    logits = torch.zeros(40, 3, num_values)
    drawn = sample_categorical(logits, 1.0, draw(0))
    assert torch.equal(drawn, sample_categorical(logits, 1.0, draw(0)))
    assert not torch.equal(drawn, sample_categorical(logits, 1.0, draw(1)))
    assert not torch.equal(drawn[:10], drawn[10:20])
    together = sample_categorical(logits, 1.0, draw(0), num_candidates=4)
    assert torch.equal(together, together[:10].repeat(4, 1))
    assert torch.equal(together[:10], sample_categorical(logits[:10], 1.0, draw(0)))


def test_shared_noise_is_that_of_one_block() -> None:
    like = torch.zeros(6, 2, dtype=torch.int64)  # only its shape counts
    noise = shared_noise(torch.randn, like, draw(0), 3)
    block = torch.randn(2, 2, generator=draw(0))
    assert torch.equal(noise, torch.cat([block] * 3))
    assert torch.equal(
        shared_noise(torch.randn, like, draw(0), 1), torch.randn(6, 2, generator=draw(0))
    )


def test_log_sum_exp_is_torchs_with_its_gradient_and_overflows_nowhere() -> None:
    logits = torch.tensor([[1000.0, 999.0, -1000.0], [-1e4, -1e4, -1e4]], requires_grad=True)
    ours, theirs = log_sum_exp(logits), logits.logsumexp(-1)
    torch.testing.assert_close(ours, theirs)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    torch.testing.assert_close(gradient, logits.detach().softmax(-1))
