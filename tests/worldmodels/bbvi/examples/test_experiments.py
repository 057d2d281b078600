import math
from typing import NoReturn

import pytest
import torch
from torch import Tensor

from worldmodels.bbvi import (
    BBVIConfig,
    Estimator,
    MeanFieldBernoulli,
    MeanFieldGaussian,
    diagnostics,
)
from worldmodels.bbvi.examples.comparison import best_family, log_evidence
from worldmodels.bbvi.examples.experiments import Fit, FittingPlan, importance_log_evidence
from worldmodels.bbvi.examples.models import HierarchicalPoisson, LinearRegression
from worldmodels.bbvi.families import VariationalFamily
from worldmodels.bbvi.joint import LogJoint
from worldmodels.errors import UserError


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fit(model: LogJoint, family: VariationalFamily, estimator: Estimator) -> Fit:
    plan, config = FittingPlan(num_steps=2), BBVIConfig(estimator)
    return plan.fit("of a test", "q", model, family, config, lambda q: 0.0)


def test_a_gradient_that_is_not_finite_and_a_missing_tail_are_findings() -> None:
    def nan_below_two(z: Tensor) -> Tensor:
        return (z.sum(-1) - 2).log()

    found = fit(nan_below_two, MeanFieldGaussian(1), Estimator())
    assert found.diverged and math.isnan(found.pareto_k)
    found = fit(lambda z: z.sum(-1), MeanFieldBernoulli(2), Estimator())
    assert not found.diverged and math.isnan(found.pareto_k)


def test_other_mistakes_end_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no reparameterised samples"):
        fit(lambda z: z.sum(-1), MeanFieldBernoulli(2), Estimator("pathwise", "none"))

    def missing() -> NoReturn:
        raise UserError("this check needs arviz-stats: pip install arviz-stats")

    monkeypatch.setattr(diagnostics, "_arviz", missing)
    with pytest.raises(UserError, match="pip install arviz-stats"):
        fit(lambda z: -0.1 * z.square().sum(-1), MeanFieldGaussian(1), Estimator())


def test_importance_sampling_finds_the_evidence_of_a_linear_regression() -> None:
    model = LinearRegression.synthetic()
    exact = model.posterior
    found, error = importance_log_evidence(
        model.joint, exact.mean + 0.01, 1.2 * exact.covariance_matrix, draw(0)
    )
    assert error < 0.005
    assert found == pytest.approx(model.log_evidence, abs=4 * error + 1e-3)


def test_nested_integrals_give_the_evidence_of_the_hierarchical_model() -> None:
    """The integrals are compared with importance sampling, which is reliable in two dimensions."""
    model = HierarchicalPoisson(torch.tensor([4.0]))
    family = best_family(model)
    found, error = importance_log_evidence(
        model.joint,
        family.mean.detach().double(),
        3 * (2 * family.log_scale.detach().double()).exp().diag(),
        draw(0),
    )
    assert log_evidence(model) == pytest.approx(found, abs=4 * error + 1e-4)
    assert error < 0.01


def test_no_mean_field_gaussian_reaches_the_evidence() -> None:
    model = HierarchicalPoisson.synthetic()
    best = model.exact_elbo(best_family(model)).item()
    assert log_evidence(model) - best == pytest.approx(0.2738, abs=1e-3)
    assert log_evidence(model, 1601) == pytest.approx(log_evidence(model), abs=1e-6)
    assert model.exact_elbo(MeanFieldGaussian(20)).item() < best - 100
