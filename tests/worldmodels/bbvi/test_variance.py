from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from worldmodels.bbvi import (
    ALL_ESTIMATORS,
    Estimator,
    FullCovarianceGaussian,
    MeanFieldBernoulli,
    MeanFieldBeta,
    MeanFieldGaussian,
    applicable_estimators,
    gradient_variance,
)
from worldmodels.bbvi.examples.models import BetaBernoulli, HierarchicalPoisson, LinearRegression
from worldmodels.bbvi.families import VariationalFamily
from worldmodels.bbvi.joint import LogJoint
from worldmodels.bbvi.variance import GradientMoments
from worldmodels.errors import UserError

NAMES = [str(estimator) for estimator in ALL_ESTIMATORS]


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twenty_latents(at: str) -> tuple[HierarchicalPoisson, MeanFieldGaussian]:
    """Return the hierarchical model, and q as at the start or near the end of a fit."""
    model, family = HierarchicalPoisson.synthetic(), MeanFieldGaussian(20)
    assert model.num_latents == 20
    if at == "end":
        with torch.no_grad():
            family.mean[0] = 1.5
            family.mean[1:] = (model.counts + 0.7).log()
            family.log_scale[0] = -1.3
            family.log_scale[1:] = -0.5 * (model.counts + 1).log()
    return model, family


@pytest.fixture(scope="module")
def tables() -> dict[str, tuple[Tensor, dict[str, GradientMoments]]]:
    """Compute each case's exact gradient and the moments of all estimators, for all tests."""
    measured = {}
    for name, case in CASES.items():
        model, family, elbo = case()
        gradients = torch.autograd.grad(elbo, list(family.parameters()))
        table = gradient_variance(model, family, num_samples=8, num_repeats=150, generator=draw(0))
        measured[name] = torch.cat([g.flatten() for g in gradients]).double(), table
    return measured


def beta() -> tuple[LogJoint, VariationalFamily, Tensor]:
    model, family = BetaBernoulli(), MeanFieldBeta(1)
    return model.joint, family, -kl_divergence(family.distribution(), model.posterior).sum()


def full_covariance() -> tuple[LogJoint, VariationalFamily, Tensor]:
    model, family = LinearRegression.synthetic(), FullCovarianceGaussian(5)
    with torch.no_grad():
        family.log_diagonal.fill_(-1.0)
        family.below_diagonal.copy_(0.1 * torch.randn(10, generator=draw(5)))
    family.double()
    return model.joint, family, -kl_divergence(family.distribution(), model.posterior)


def hierarchical(at: str) -> tuple[LogJoint, VariationalFamily, Tensor]:
    model, family = twenty_latents(at)
    return model.joint, family, model.exact_elbo(family)


CASES: dict[str, Callable[[], tuple[LogJoint, VariationalFamily, Tensor]]] = {
    "beta": beta,
    "full covariance": full_covariance,
    "20 latents, start": lambda: hierarchical("start"),
    "20 latents, end": lambda: hierarchical("end"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_estimators_mean_is_the_exact_gradient(
    tables: dict[str, tuple[Tensor, dict[str, GradientMoments]]], case: str
) -> None:
    """Over 150 gradients, all errors are below 5 standard errors, and their rms is below 1.8."""
    exact, table = tables[case]
    assert list(table) == NAMES
    for name, moments in table.items():
        errors = (moments.mean - exact) / moments.standard_error
        assert errors.abs().max() < 5, name
        assert errors.square().mean().sqrt() < 1.8, name


@pytest.mark.parametrize("at", ["start", "end"])
def test_rao_blackwell_and_leave_one_out_cut_the_variance(
    tables: dict[str, tuple[Tensor, dict[str, GradientMoments]]], at: str
) -> None:
    _, table = tables[f"20 latents, {at}"]
    variance = {name: moments.total_variance for name, moments in table.items()}
    # measured 200x at the start and 1,000x at the end
    assert variance["score"] > 100 * variance["rao-blackwell + leave-one-out"]
    assert variance["score"] > 10 * variance["rao-blackwell"]
    for method in ("score", "rao-blackwell"):
        assert variance[f"{method} + fitted"] < variance[method]
        assert variance[f"{method} + leave-one-out"] < variance[method]
    assert variance["rao-blackwell + leave-one-out"] < variance["score + leave-one-out"]


def test_more_samples_divide_the_variance() -> None:
    model, family = twenty_latents("end")
    few, many = (
        gradient_variance(
            model.joint,
            family,
            num_samples=num_samples,
            num_repeats=300,
            generator=draw(2),
            estimators=[Estimator("pathwise", "none")],
        )["pathwise"].total_variance
        for num_samples in (4, 16)
    )
    assert few / many == pytest.approx(4, rel=0.2)


def test_the_table_leaves_the_parameters_and_lists_what_applies() -> None:
    def plain(z: Tensor) -> Tensor:
        return -z.square().sum(-1)

    family = MeanFieldGaussian(2)
    table = gradient_variance(plain, family, num_samples=4, num_repeats=3, generator=draw(0))
    assert list(table) == [name for name in NAMES if "rao" not in name]
    assert all(parameter.grad is None for parameter in family.parameters())
    assert (family.mean == 0).all()
    names = [str(estimator) for estimator in applicable_estimators(plain, MeanFieldBernoulli(2))]
    assert names == ["score", "score + fitted", "score + leave-one-out"]
    with pytest.raises(UserError, match="num_repeats must be at least 2, got 1"):
        gradient_variance(plain, family, num_samples=4, num_repeats=1, generator=draw(0))
