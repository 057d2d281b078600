import doctest
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

import worldmodels.bbvi
from worldmodels.bbvi import (
    ALL_ESTIMATORS,
    BBVIConfig,
    Estimator,
    FactoredJoint,
    FullCovarianceGaussian,
    MeanFieldBeta,
    MeanFieldCategorical,
    MeanFieldGaussian,
    NonFiniteGradient,
    estimate_elbo,
    fit_bbvi,
)
from worldmodels.bbvi.examples.models import BetaBernoulli, HierarchicalPoisson, LinearRegression
from worldmodels.errors import UserError

PATHWISE = Estimator("pathwise", "none")


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_packages_example_runs() -> None:
    result = doctest.testmod(worldmodels.bbvi)
    assert result.attempted >= 8 and result.failed == 0


@pytest.mark.parametrize(("optimizer", "learning_rate"), [("adam", 0.1), ("adagrad", 1.0)])
@pytest.mark.parametrize(
    "estimator", [e for e in ALL_ESTIMATORS if e.method != "rao-blackwell"], ids=str
)
def test_a_coin_is_fitted_to_its_exact_posterior(
    estimator: Estimator, optimizer: str, learning_rate: float
) -> None:
    model, family = BetaBernoulli(), MeanFieldBeta(1)
    config = BBVIConfig(
        estimator,
        num_samples=32 if estimator.control == "fitted" else 128,
        num_steps=600 if estimator == Estimator("score", "none") else 300,
        optimizer=optimizer,
        learning_rate=learning_rate,
        final_learning_rate=0.01 * learning_rate,
    )
    result = fit_bbvi(model.joint, family, config, generator=draw(0))
    assert kl_divergence(family.distribution(), model.posterior).item() <= 0.01
    assert result.elbo_history[-100:].mean().item() == pytest.approx(model.log_evidence, abs=0.03)


@pytest.mark.parametrize(
    ("estimator", "optimizer", "learning_rate"),
    [(Estimator(), "adam", 0.1), (PATHWISE, "adam", 0.1), (PATHWISE, "adagrad", 0.5)],
    ids=str,
)
def test_a_full_gaussian_is_fitted_to_its_exact_posterior(
    estimator: Estimator, optimizer: str, learning_rate: float
) -> None:
    model, family = LinearRegression.synthetic(), FullCovarianceGaussian(5).double()
    config = BBVIConfig(
        estimator,
        num_samples=64,
        num_steps=500,
        optimizer=optimizer,
        learning_rate=learning_rate,
        final_learning_rate=0.01 * learning_rate,
    )
    fit_bbvi(model.joint, family, config, generator=draw(0))
    assert kl_divergence(family.distribution(), model.posterior).item() <= 0.01
    estimate = estimate_elbo(model.joint, family, 5000, draw(1))
    assert estimate.mean == pytest.approx(model.log_evidence, abs=0.02)
    assert estimate.mean <= model.log_evidence + 4 * estimate.standard_error + 1e-5


def test_the_evidence_is_what_the_terms_integrate_to() -> None:
    coin = BetaBernoulli()
    z = torch.linspace(0, 1, 100_001, dtype=torch.float64)[1:-1, None]
    assert coin.joint(z).exp().sum().log().item() - 11.512925 == pytest.approx(
        coin.log_evidence, abs=1e-5
    )
    line = LinearRegression.synthetic()
    z = torch.randn(3, 5, generator=draw(0), dtype=torch.float64)
    torch.testing.assert_close(
        line.joint(z) - line.posterior.log_prob(z),  # Bayes' rule, at any z
        torch.full((3,), line.log_evidence, dtype=torch.float64),
        atol=1e-4,
        rtol=0,
    )


def test_categories_are_fitted_without_any_gradient_of_the_model() -> None:
    table = torch.randn(3, 4, generator=draw(3))
    model = FactoredJoint(
        lambda z: torch.stack([table[i, z[:, i]] for i in range(3)], 1),
        torch.eye(3, dtype=torch.bool),
    )
    family = MeanFieldCategorical(3, num_values=4)
    config = BBVIConfig(
        Estimator("rao-blackwell"), num_samples=32, num_steps=300, learning_rate=0.1
    )
    fit_bbvi(model, family, config, generator=draw(0))
    posterior = torch.distributions.Categorical(logits=table)
    assert kl_divergence(family.distribution(), posterior).sum().item() <= 0.01


def highest_elbo(model: HierarchicalPoisson) -> float:
    """Return the highest ELBO of a mean-field Gaussian, found by a deterministic optimizer."""
    family = MeanFieldGaussian(model.num_latents)
    optimizer = torch.optim.LBFGS(family.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -model.exact_elbo(family)
        loss.backward()
        return loss

    optimizer.step(closure)
    return model.exact_elbo(family).item()


def test_the_hierarchical_model_is_fitted_to_the_maximum_of_its_exact_elbo() -> None:
    model, family = HierarchicalPoisson.synthetic(), MeanFieldGaussian(20)
    config = BBVIConfig(Estimator("rao-blackwell"), num_steps=400, final_learning_rate=5e-3)
    fit_bbvi(model.joint, family, config, generator=draw(0))
    assert -1e-4 <= highest_elbo(model) - model.exact_elbo(family).item() <= 0.01


def test_averaging_the_last_iterates_sharpens_a_noisy_fit() -> None:
    model = HierarchicalPoisson.synthetic()
    best, short = highest_elbo(model), []
    for average_last in (0.0, 0.5):
        family = MeanFieldGaussian(20)
        config = BBVIConfig(
            PATHWISE, num_samples=4, num_steps=400, learning_rate=0.1, average_last=average_last
        )
        fit_bbvi(model.joint, family, config, generator=draw(0))
        short.append(best - model.exact_elbo(family).item())
    assert short[1] < 0.3 * short[0]


def test_an_average_over_one_step_is_the_last_iterate() -> None:
    families = [MeanFieldGaussian(2), MeanFieldGaussian(2)]
    for family, average_last in zip(families, (0.0, 0.1), strict=True):
        config = BBVIConfig(num_steps=10, average_last=average_last)
        fit_bbvi(lambda z: -(z - 3).square().sum(-1), family, config, generator=draw(0))
    torch.testing.assert_close(families[0].mean, families[1].mean)


def test_a_fit_hangs_on_its_generator_alone_and_reports_each_step() -> None:
    def log_joint(z: Tensor) -> Tensor:
        return -(z - 1).square().sum(-1)

    runs: list[Tensor] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(runs))  # global state must not matter
        family = MeanFieldGaussian(2)
        output: list[tuple[int, float]] = []
        result = fit_bbvi(
            log_joint,
            family,
            BBVIConfig(num_steps=5),
            generator=draw(seed),
            on_step=lambda *figures: output.append(figures),  # noqa: B023  called at once
        )
        assert [step for step, _ in output] == [1, 2, 3, 4, 5]
        assert [elbo for _, elbo in output] == pytest.approx(result.elbo_history.tolist())
        runs.append(family.mean.detach())
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_frozen_parameters_stay() -> None:
    family = MeanFieldGaussian(2)
    family.log_scale.requires_grad_(False)
    for estimator in ALL_ESTIMATORS:
        if estimator.method != "rao-blackwell":
            config = BBVIConfig(estimator, num_steps=3)
            fit_bbvi(lambda z: -(z - 1).square().sum(-1), family, config, generator=draw(0))
    assert (family.log_scale == 0).all() and (family.mean > 0).all()


def test_the_learning_rate_falls_by_a_cosine() -> None:
    config = BBVIConfig(num_steps=101, learning_rate=0.1, final_learning_rate=0.02)
    assert [config.learning_rate_at(step) for step in (0, 50, 100)] == pytest.approx(
        [0.1, 0.06, 0.02]
    )
    assert BBVIConfig().learning_rate_at(1999) == 0.05


def test_a_gradient_that_is_not_finite_is_refused_and_changes_nothing() -> None:
    family = MeanFieldGaussian(1)
    with pytest.raises(NonFiniteGradient, match=r"gradient of step 1 is not finite \(ELBO -?nan\)"):
        fit_bbvi(
            lambda z: (z.sum(-1) - 2).log(),  # nan below 2
            family,
            BBVIConfig(),
            generator=draw(0),
        )
    assert (family.mean == 0).all()


def test_impossible_settings_are_refused() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"optimizer": "sgd"}, 'optimizer must be one of adam, adagrad, got "sgd"'),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"final_learning_rate": -1.0}, "final_learning_rate must be at least 0, got -1.0"),
        ({"average_last": 1.5}, r"average_last must be between 0 and 1, got 1.5"),
    ]
    for settings, message in cases:
        with pytest.raises(UserError, match=message):
            BBVIConfig(**settings)


def test_estimators_have_names_of_their_own() -> None:
    names = [str(estimator) for estimator in ALL_ESTIMATORS]
    assert len(set(names)) == 7 and "rao-blackwell + leave-one-out" in names
    pairs = itertools.product(("score", "rao-blackwell"), ("none", "fitted", "leave-one-out"))
    assert {(e.method, e.control) for e in ALL_ESTIMATORS} == {*pairs, ("pathwise", "none")}
