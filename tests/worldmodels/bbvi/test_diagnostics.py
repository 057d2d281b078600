import math

import pytest
import torch
from torch import Tensor

from worldmodels.bbvi import (
    GOOD_PARETO_K,
    FullCovarianceGaussian,
    MeanFieldBernoulli,
    MeanFieldBeta,
    MeanFieldGaussian,
    NoParetoTail,
    pareto_k,
)
from worldmodels.bbvi.diagnostics import pareto_k_of_weights, rank_normalized_r_hat
from worldmodels.bbvi.examples.models import BetaBernoulli, LinearRegression
from worldmodels.bbvi.joint import LogJoint
from worldmodels.errors import UserError


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0, 1.5])
def test_pareto_weights_have_the_k_they_were_drawn_with(k: float) -> None:
    """If u is uniform, the weights u^-k have a Pareto tail with this k, whatever their scale."""
    u = torch.rand(20_000, generator=draw(0), dtype=torch.float64)
    assert pareto_k_of_weights(300 - k * u.log()) == pytest.approx(k, abs=0.15)


def regression_family(scale: float) -> tuple[LogJoint, FullCovarianceGaussian]:
    """Return a q that equals the exact posterior, except that its sd is multiplied by `scale`."""
    model, family = LinearRegression.synthetic(), FullCovarianceGaussian(5).double()
    tril = scale * model.posterior.scale_tril
    row, column = torch.tril_indices(5, 5, -1)
    with torch.no_grad():
        family.mean.copy_(model.posterior.mean)
        family.log_diagonal.copy_(tril.diagonal().log())
        family.below_diagonal.copy_(tril[row, column])
    return model.joint, family


@pytest.mark.parametrize(("scale", "good"), [(1.0, True), (1.5, True), (0.3, False)])
def test_too_narrow_is_bad_and_exact_or_wide_is_good(scale: float, good: bool) -> None:
    model, family = regression_family(scale)
    k = pareto_k(model, family, generator=draw(0))
    assert k < 0.5 if good else k > GOOD_PARETO_K


def test_the_exact_q_has_no_tail_at_all() -> None:
    model, family = BetaBernoulli(), MeanFieldBeta(1)
    with torch.no_grad():
        family.log_alpha.fill_(torch.tensor(16.0).log())
        family.log_beta.fill_(torch.tensor(14.0).log())
    assert pareto_k(model.joint, family, generator=draw(0)) == 0.0
    with torch.no_grad():  # the right mean, a third of the spread
        family.log_alpha.add_(torch.tensor(9.0).log())
        family.log_beta.add_(torch.tensor(9.0).log())
    assert pareto_k(model.joint, family, generator=draw(0)) > GOOD_PARETO_K


def test_a_q_beside_the_posterior_is_bad() -> None:
    family = MeanFieldGaussian(3)
    with torch.no_grad():
        family.mean.fill_(3.0)
    k = pareto_k(lambda z: -0.5 * z.square().sum(-1), family, generator=draw(0))
    assert k > GOOD_PARETO_K


def test_samples_that_the_posterior_rules_out_have_no_weight() -> None:
    def positive_half(z: Tensor) -> Tensor:
        return torch.where(z[:, 0] > 0, -0.5 * z[:, 0].square(), -torch.inf)

    assert pareto_k(positive_half, MeanFieldGaussian(1), generator=draw(0)) < 0.5


def test_weights_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="nan or infinite"):
        pareto_k_of_weights(torch.full((200,), torch.nan))
    with pytest.raises(UserError, match="nan or infinite"):
        pareto_k_of_weights(torch.full((200,), -torch.inf))
    with pytest.raises(UserError, match="at least 100 samples, got 50"):
        pareto_k_of_weights(torch.zeros(50))


@pytest.mark.parametrize(
    ("logits", "slopes", "distinct"), [((8.0, -8.0), (-5.0, 5.0), 3), ((1.0, -1.0), (2.0, 0.5), 4)]
)
def test_discrete_latents_have_no_tail(
    logits: tuple[float, float], slopes: tuple[float, float], distinct: int
) -> None:
    family = MeanFieldBernoulli(2)
    with torch.no_grad():
        family.logits.copy_(torch.tensor(logits))
    with pytest.raises(NoParetoTail, match=f"got {distinct} distinct values in 10000 samples"):
        pareto_k(lambda z: z @ torch.tensor(slopes), family, generator=draw(0))


def test_a_tail_tied_at_its_foot_is_refused_and_one_tied_a_little_is_not() -> None:
    u = torch.rand(10_000, generator=draw(0), dtype=torch.float64)
    k = pareto_k_of_weights(-0.5 * u.log())
    assert pareto_k_of_weights((-0.5 * u.log()).mul(100).round() / 100) == pytest.approx(k, abs=0.1)
    log_weights = torch.zeros(10_000, dtype=torch.float64)
    log_weights[:200] = u[:200]  # of a tail of 300
    with pytest.raises(NoParetoTail, match=r"300 importance weights are equal \(201 are"):
        pareto_k_of_weights(log_weights)
    with pytest.raises(NoParetoTail, match=r"equal \(2 are distinct\)"):
        pareto_k_of_weights((u < 0.001).double())


@pytest.mark.parametrize("spread", [300.0, 1e4])
def test_a_q_far_off_is_bad_even_where_weights_are_beyond_a_float(spread: float) -> None:
    k = pareto_k_of_weights(spread * torch.randn(10_000, generator=draw(0)))
    assert k > 10 and math.isinf(k) == (spread > 1000)


def test_chains_that_disagree_have_an_r_hat_above_one() -> None:
    draws = torch.randn(4, 500, 2, generator=draw(0))
    draws[0, :, 1] += 2.0
    r_hat = rank_normalized_r_hat(draws)
    assert r_hat[0] < 1.01 and r_hat[1] > 1.1
