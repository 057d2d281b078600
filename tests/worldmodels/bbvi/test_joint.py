import pytest
import torch

from worldmodels.bbvi import (
    Estimator,
    FactoredJoint,
    FullCovarianceGaussian,
    MeanFieldBernoulli,
    MeanFieldGaussian,
    elbo_surrogate,
    estimate_elbo,
)
from worldmodels.bbvi.examples.models import (
    BetaBernoulli,
    HierarchicalPoisson,
    LinearRegression,
    LogisticRegression,
)
from worldmodels.errors import UserError


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain() -> FactoredJoint:
    """Make a joint of two latents with two terms: a prior of latent 0, and a link of both."""
    involves = torch.tensor([[True, True], [False, True]])
    return FactoredJoint(
        lambda z: torch.stack([-z[:, 0].square(), -(z[:, 0] - z[:, 1]).square()], 1), involves
    )


@pytest.mark.parametrize(
    ("model", "num_latents"),
    [
        (BetaBernoulli(), 1),
        (LinearRegression.synthetic(), 5),
        (LogisticRegression.synthetic(num_rows=30), 5),
        (HierarchicalPoisson.synthetic(), 20),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_models_masks_are_true_and_tight(
    model: BetaBernoulli | LinearRegression | LogisticRegression | HierarchicalPoisson,
    num_latents: int,
) -> None:
    joint = model.joint
    z = torch.rand(4, num_latents, generator=draw(0), dtype=torch.float64)
    joint.check(z)
    for latent in range(num_latents):
        moved = z.clone()
        moved[:, latent] += 0.01
        changed = (joint.evaluate(moved) != joint.evaluate(z)).any(0)
        assert torch.equal(changed, joint.involves[latent])


def test_a_mask_that_hides_a_dependency_is_caught() -> None:
    model = chain()
    hidden = FactoredJoint(model.terms, torch.tensor([[True, False], [False, True]]))
    z = torch.randn(5, 2, generator=draw(0))
    model.check(z)
    with pytest.raises(UserError, match=r"term 1 depends on latent 0, but involves\[0, 1\]"):
        hidden.check(z)


def test_a_hidden_dependency_would_bias_the_gradient() -> None:
    """The method `check` exists because nothing else shows such a bias."""
    model = chain()
    hidden = FactoredJoint(model.terms, torch.tensor([[True, False], [False, True]]))
    family = MeanFieldGaussian(2)
    with torch.no_grad():
        family.mean.copy_(torch.tensor([0.0, 2.0]))
    gradients = [
        torch.autograd.grad(
            elbo_surrogate(joint, family, Estimator("rao-blackwell"), 50_000, draw(0))[0],
            family.mean,
        )[0]
        for joint in (model, hidden)
    ]
    # d/dm0 of -m0^2 - (m0 - m1)^2 at (0, 2) is 4; without the second term it is 0
    torch.testing.assert_close(gradients[0], torch.tensor([4.0, -4.0]), atol=0.15, rtol=0)
    torch.testing.assert_close(gradients[1], torch.tensor([0.0, -4.0]), atol=0.15, rtol=0)


def test_with_one_factor_rao_blackwell_is_the_plain_score() -> None:
    model, family = LinearRegression.synthetic().joint, FullCovarianceGaussian(5).double()
    values = [
        elbo_surrogate(model, family, Estimator(method), 8, draw(0))[0]
        for method in ("score", "rao-blackwell")
    ]
    torch.testing.assert_close(*values)


def test_the_elbo_comes_with_the_surrogate() -> None:
    model, family = HierarchicalPoisson.synthetic(), MeanFieldGaussian(20)
    with torch.no_grad():
        family.log_scale.fill_(-1.0)
    estimate = estimate_elbo(model.joint, family, 20_000, draw(0))
    assert estimate.mean == pytest.approx(
        model.exact_elbo(family).item(), abs=4 * estimate.standard_error
    )
    for estimator in (Estimator("rao-blackwell"), Estimator(), Estimator("pathwise", "none")):
        _, difference = elbo_surrogate(model.joint, family, estimator, 20_000, draw(0))
        assert difference.mean().item() == pytest.approx(estimate.mean, rel=1e-4)
        assert not difference.requires_grad


def test_rao_blackwell_without_the_terms_is_refused() -> None:
    with pytest.raises(UserError, match="needs to know which terms involve which latent"):
        elbo_surrogate(
            lambda z: -z.square().sum(-1),
            MeanFieldGaussian(2),
            Estimator("rao-blackwell"),
            4,
            draw(0),
        )


def test_pathwise_without_a_gradient_is_refused() -> None:
    pathwise = Estimator("pathwise", "none")
    with pytest.raises(UserError, match="MeanFieldBernoulli has no reparameterised samples"):
        elbo_surrogate(lambda z: z.sum(-1), MeanFieldBernoulli(2), pathwise, 4, draw(0))
    with pytest.raises(UserError, match="log_joint has no gradient in z"):
        elbo_surrogate(lambda z: z.detach().sum(-1), MeanFieldGaussian(2), pathwise, 4, draw(0))


def test_wrong_shapes_are_refused(unchecked: None) -> None:
    family = MeanFieldGaussian(2)
    with pytest.raises(
        UserError, match=r"one number per sample: expected shape \(4,\), got \(4, 2\)"
    ):
        elbo_surrogate(lambda z: z, family, Estimator(), 4, draw(0))
    with pytest.raises(UserError, match=r"expected shape \(4, 2\), got \(4, 1\)"):
        FactoredJoint(lambda z: z[:, :1], chain().involves)(torch.zeros(4, 2))
    with pytest.raises(UserError, match="`involves` has 2 latents, but the samples have 3"):
        chain()(torch.zeros(4, 3))
    with pytest.raises(UserError, match=r"of shape \(latents, terms\), got torch.float32"):
        FactoredJoint(lambda z: z, torch.ones(2, 2))
    with pytest.raises(UserError, match="num_samples must be at least 1, got 0"):
        elbo_surrogate(chain(), family, Estimator(), 0, draw(0))
    with pytest.raises(UserError, match="num_samples must be at least 2, got 1"):
        estimate_elbo(chain(), family, 1, draw(0))
    with pytest.raises(UserError, match="counts must not be negative"):
        HierarchicalPoisson(torch.tensor([1.0, -1.0]))
