import math

import pytest
import torch

from worldmodels.memory.baselines import PersistenceCategorical, PersistenceGaussian


def test_stay_gaussian_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    now = torch.randn(500, 3, generator=generator)
    change = torch.randn(500, 3, generator=generator) * torch.tensor([0.1, 1.0, 3.0]) + 0.2
    fitted = PersistenceGaussian.fit([(now, now + change)])
    # About zero, not about the mean change: it says "the next is this one".
    variance = change.square().mean(0)
    torch.testing.assert_close(fitted.sigma, variance.sqrt())
    expected = 0.5 * (1 + math.log(2 * math.pi) + variance.log()).sum().item()
    assert fitted.nll([(now, now + change)]) == pytest.approx(expected, rel=1e-4)


def test_stay_gaussian_survives_a_dimension_that_never_moves() -> None:
    now = torch.zeros(10, 1)
    assert math.isfinite(PersistenceGaussian.fit([(now, now)]).nll([(now, now)]))


def test_stay_categorical_recovers_what_made_the_data() -> None:
    generator = torch.Generator().manual_seed(1)
    count, persistence = 40_000, torch.tensor([0.8, 0.3])
    frequency = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.1, 0.7]])
    now = torch.randint(4, (count, 2), generator=generator)
    drawn = torch.multinomial(frequency, count, replacement=True, generator=generator).T
    persists = torch.rand(count, 2, generator=generator) < persistence
    then = torch.where(persists, now, drawn)
    fitted = PersistenceCategorical.fit([(now, then)], 4, num_sweeps=100)
    torch.testing.assert_close(fitted.persistence, persistence, atol=0.015, rtol=0)
    torch.testing.assert_close(fitted.frequency, frequency, atol=0.02, rtol=0)
    # Fitted by maximum likelihood: no worse on its own data than the truth.
    assert (
        fitted.nll([(now, then)])
        <= PersistenceCategorical(persistence, frequency).nll([(now, then)]) + 1e-3
    )


def test_stay_categorical_nll_is_the_formula() -> None:
    persistence = torch.tensor([0.5, 0.9])
    frequency = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    now, then = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 0], [0, 1]])
    first = math.log(0.5 + 0.5 * 0.2) + math.log(0.1 * 0.6)
    second = math.log(0.5 * 0.2) + math.log(0.9 + 0.1 * 0.4)
    nll = PersistenceCategorical(persistence, frequency).nll([(now, then)])
    assert nll == pytest.approx(-(first + second) / 2, rel=1e-5)


def test_a_value_never_drawn_in_training_costs_a_finite_price() -> None:
    now = torch.zeros(20, 1, dtype=torch.int64)
    fitted = PersistenceCategorical.fit([(now, now)], 3)
    assert math.isfinite(fitted.nll([(now, now + 2)]))
