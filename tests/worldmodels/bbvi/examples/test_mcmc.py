import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from worldmodels.bbvi import (
    BBVIConfig,
    Estimator,
    FullCovarianceGaussian,
    fit_bbvi,
)
from worldmodels.bbvi.examples.mcmc import HMCConfig, HMCResult, hmc
from worldmodels.bbvi.examples.models import LinearRegression, LogisticRegression
from worldmodels.errors import UserError


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_chains_find_a_gaussian_known_in_closed_form() -> None:
    model = LinearRegression.synthetic()
    result = hmc(model.joint, 5, HMCConfig(num_warmup=100, num_draws=150), generator=draw(0))
    assert result.draws.shape == (64, 150, 5)
    assert (result.r_hat < 1.02).all() and 0.8 < result.acceptance < 0.97
    sampled = MultivariateNormal(result.mean, result.covariance)
    assert kl_divergence(sampled, model.posterior).item() < 0.02


@pytest.fixture(scope="module")
def logistic() -> tuple[LogisticRegression, HMCResult]:
    model = LogisticRegression.synthetic()
    reference = hmc(model.joint, 5, HMCConfig(), generator=draw(0))
    assert (reference.r_hat < 1.01).all()
    return model, reference


@pytest.mark.parametrize("estimator", [Estimator(), Estimator("pathwise", "none")], ids=str)
def test_logistic_regression_agrees_with_the_chains(
    logistic: tuple[LogisticRegression, HMCResult], estimator: Estimator
) -> None:
    """Means differ by less than 0.1 posterior sd, sds by less than 8 %, and the KL is below 0.02.

    A Gaussian cannot represent the skew of the posterior, so q is 1-2 % too narrow.
    """
    model, reference = logistic
    family = FullCovarianceGaussian(5).double()
    config = BBVIConfig(
        estimator, num_samples=64, num_steps=500, learning_rate=0.1, final_learning_rate=1e-3
    )
    fit_bbvi(model.joint, family, config, generator=draw(0))
    q = family.distribution()
    spread = reference.covariance.diagonal().sqrt()
    assert ((q.mean - reference.mean).abs() / spread).max() < 0.1
    assert (q.stddev / spread - 1).abs().max() < 0.08
    gaussian = MultivariateNormal(reference.mean, reference.covariance)
    assert kl_divergence(q, gaussian).item() < 0.02


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="num_chains must be at least 2, got 1"):
        HMCConfig(num_chains=1)
    with pytest.raises(UserError, match="max_leapfrog must be at least 1, got 0"):
        HMCConfig(max_leapfrog=0)
