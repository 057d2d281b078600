from typing import Any

import pytest
import torch
from torch.distributions import Dirichlet, Independent

from worldmodels.bbvi import (
    FullCovarianceGaussian,
    MeanFieldBernoulli,
    MeanFieldBeta,
    MeanFieldCategorical,
    MeanFieldGaussian,
)
from worldmodels.bbvi.families import VariationalFamily
from worldmodels.errors import UserError

FAMILIES = [
    MeanFieldGaussian(3),
    FullCovarianceGaussian(3),
    MeanFieldBeta(3),
    MeanFieldBernoulli(3),
    MeanFieldCategorical(3, num_values=4),
]


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def known(family: Any) -> Any:
    """Return q as a torch distribution of any class."""
    return family.distribution()


@pytest.fixture(params=FAMILIES, ids=lambda family: type(family).__name__)
def family(request: pytest.FixtureRequest) -> VariationalFamily:
    generator = draw(0)
    family: VariationalFamily = request.param
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
    return family


def test_densities_are_torchs(family: VariationalFamily) -> None:
    z = family.sample(50, draw(1))
    expected = known(family).log_prob(z)
    if expected.dim() == 1:
        expected = expected[:, None]
    log_q = family.log_prob(z)
    torch.testing.assert_close(log_q, expected)
    assert log_q.shape == (50, len(family.membership)) and not z.requires_grad
    assert (family.membership.sum(0) == 1).all()  # each latent in one factor


def test_samples_have_the_moments_and_hang_on_the_generator_alone(
    family: VariationalFamily,
) -> None:
    z = family.sample(40_000, draw(1))
    assert torch.equal(z, family.sample(40_000, draw(1)))
    if isinstance(family, MeanFieldCategorical):
        frequency = torch.stack([(z == value).float().mean(0) for value in range(4)], 1)
        torch.testing.assert_close(frequency, known(family).probs, atol=0.01, rtol=0)
        return
    q = known(family)
    torch.testing.assert_close(z.mean(0), q.mean, atol=0.04, rtol=0)
    torch.testing.assert_close(z.var(0), q.variance, atol=0.02, rtol=0.04)
    if isinstance(family, FullCovarianceGaussian):
        torch.testing.assert_close(torch.cov(z.T), q.covariance_matrix, atol=0.08, rtol=0)


def test_reparameterised_samples_carry_the_gradient_of_their_mean(
    family: VariationalFamily,
) -> None:
    if not family.can_rsample:
        with pytest.raises(UserError, match="has no reparameterised samples: use the method"):
            family.rsample(3, draw(0))
        return
    weight = torch.tensor([1.0, -2.0, 0.5])
    parameters = list(family.parameters())
    z = family.rsample(200_000, draw(2))
    sampled = torch.autograd.grad((z * z * weight).sum(-1).mean(), parameters)
    q = known(family)
    second_moment = q.variance + q.mean.square()
    exact = torch.autograd.grad((second_moment * weight).sum(), parameters)
    for one, other in zip(sampled, exact, strict=True):
        torch.testing.assert_close(one, other, atol=0.05, rtol=0)


def test_samples_and_densities_keep_double_precision() -> None:
    for family in (MeanFieldGaussian(2), FullCovarianceGaussian(2), MeanFieldBeta(2)):
        z = family.double().sample(4, draw(0))
        assert z.dtype == torch.float64 and family.log_prob(z).dtype == torch.float64


def test_beta_samples_stay_inside_however_extreme() -> None:
    family = MeanFieldBeta(2)
    with torch.no_grad():
        family.log_alpha.copy_(torch.tensor([-6.0, 6.0]))
        family.log_beta.copy_(torch.tensor([6.0, -6.0]))
    z = family.sample(1000, draw(0))
    assert ((z > 0) & (z < 1)).all()
    assert torch.isfinite(family.log_prob(z)).all()


def test_a_beta_is_a_dirichlet_of_two() -> None:
    family = MeanFieldBeta(2)
    z = torch.tensor([[0.2, 0.9]])
    pair = Dirichlet(torch.full((2, 2), 2.0))
    torch.testing.assert_close(family.log_prob(z), pair.log_prob(torch.stack([z, 1 - z], -1)))


def test_a_mean_field_gaussian_is_a_full_one_without_covariance() -> None:
    one, all_ = MeanFieldGaussian(3), FullCovarianceGaussian(3)
    with torch.no_grad():
        for q, scale in ((one, one.log_scale), (all_, all_.log_diagonal)):
            q.mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
            scale.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    z = one.sample(5, draw(0))
    torch.testing.assert_close(z, all_.sample(5, draw(0)))
    torch.testing.assert_close(one.log_prob(z).sum(-1), all_.log_prob(z)[:, 0])
    whole = Independent(one.distribution(), 1)
    torch.testing.assert_close(whole.log_prob(z), all_.log_prob(z)[:, 0])


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="num_latents must be at least 1, got 0"):
        MeanFieldGaussian(0)
    with pytest.raises(UserError, match="num_values must be at least 2, got 1"):
        MeanFieldCategorical(3, num_values=1)
