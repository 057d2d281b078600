import doctest
import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from worldmodels.bbvi import pareto_k
from worldmodels.bbvi.examples import binary_vae
from worldmodels.bbvi.examples.binary_vae import (
    BinaryVAE,
    BinaryVAEConfig,
    EncodedGaussian,
    draw_points,
    train_binary_vae,
)
from worldmodels.bbvi.examples.binary_vae_scores import (
    BinaryVAEFit,
    evaluate_points,
    fit_binary_vae,
    independent_pixels,
    nearest_mean_accuracy,
    pixels_of_cluster,
)
from worldmodels.bbvi.examples.experiments import FittingPlan
from worldmodels.errors import UserError


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def fitted() -> BinaryVAEFit:
    """Train for 500 steps, which are more than enough to find the clusters."""
    return fit_binary_vae(FittingPlan(num_steps=500))


def test_the_example_runs() -> None:
    result = doctest.testmod(binary_vae)
    assert result.attempted == 4 and result.failed == 0


def test_points_are_binary_and_follow_from_the_generator_alone() -> None:
    points = draw_points(500, draw(0))
    assert points.pixels.shape == (500, 100)
    assert set(points.pixels.unique().tolist()) == {0.0, 1.0}
    assert points.cluster.bincount().tolist() == pytest.approx([500 / 3] * 3, rel=0.25)
    torch.testing.assert_close(draw_points(500, draw(0)).pixels, points.pixels)
    # the same world for other points: pixels of one Gaussian are alike, whoever draws them
    others = draw_points(500, draw(1))
    same, other = (
        (points.pixels[points.cluster == 0].mean(0) - others.pixels[others.cluster == c].mean(0))
        for c in (0, 1)
    )
    assert same.abs().mean() < 0.1 < 0.3 < other.abs().mean()


def test_q_and_the_joint_are_those_of_torch() -> None:
    vae, points = BinaryVAE(BinaryVAEConfig()), draw_points(7, draw(0))
    mean, log_scale = vae.encoder(points.pixels).chunk(2, dim=1)
    z = torch.randn(3, 14, generator=draw(1))
    of_point = z.view(3, 7, 2)
    expected = Normal(mean, log_scale.exp()).log_prob(of_point).flatten(1)
    torch.testing.assert_close(vae.posterior(points.pixels).log_prob(z), expected)
    likelihood = Bernoulli(logits=vae.decoder(of_point)).log_prob(points.pixels)
    expected = Normal(0, 1).log_prob(of_point).sum((1, 2)) + likelihood.sum((1, 2))
    torch.testing.assert_close(vae.log_joint(points.pixels)(z), expected, rtol=1e-5, atol=1e-3)


def test_samples_carry_the_gradient_to_what_the_encoder_proposed() -> None:
    mean = torch.zeros(4, 2, requires_grad=True)
    log_scale = torch.full((4, 2), 0.5, requires_grad=True)
    z = EncodedGaussian(mean, log_scale).rsample(20_000, draw(0))
    assert z.shape == (20_000, 8)
    assert z.std(0).tolist() == pytest.approx([math.exp(0.5)] * 8, rel=0.03)
    z.mean(0).sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(4, 2))


def test_it_beats_both_baselines_on_held_out_points(fitted: BinaryVAEFit) -> None:
    assert fitted.independent_pixels == pytest.approx(-60.7, abs=1)
    assert fitted.pixels_of_cluster == pytest.approx(-35.3, abs=1)
    assert fitted.elbo > fitted.pixels_of_cluster + 5
    assert fitted.history[-50:].mean() > fitted.history[:50].mean() + 20


def test_its_latents_separate_the_three_gaussians(fitted: BinaryVAEFit) -> None:
    assert fitted.accuracy > 0.97
    untrained = BinaryVAE(BinaryVAEConfig()).means(fitted.held_out.pixels)
    shuffled = fitted.held_out.cluster.roll(1)
    chance = nearest_mean_accuracy(untrained, shuffled, untrained, shuffled)
    assert chance < 0.5


def test_its_q_is_judged_point_by_point(fitted: BinaryVAEFit) -> None:
    kl, pareto_ks = evaluate_points(fitted.vae, fitted.held_out.pixels[:5], draw(0))
    assert kl.shape == pareto_ks.shape == (5,) and (kl > 0).all()
    assert fitted.fit.kl < 2 and fitted.fit.pareto_k < 0.7 and fitted.fraction_above < 0.5
    one = fitted.held_out.pixels[:1]
    by_library = pareto_k(fitted.vae.log_joint(one), fitted.vae.posterior(one), generator=draw(1))
    assert by_library == pytest.approx(float(pareto_ks[0]), abs=0.3)


def test_baselines_in_closed_form() -> None:
    even = torch.tensor([[0.0], [1.0]]).expand(2, 100)
    assert independent_pixels(even, even) == pytest.approx(-100 * math.log(2), rel=1e-5)
    points = binary_vae.Points(torch.eye(3), torch.arange(3))
    # each cluster has one training point: 2/3 on what it showed
    assert pixels_of_cluster(points, points) == pytest.approx(3 * math.log(2 / 3), rel=1e-5)
    line, cluster = torch.tensor([[0.0], [1.0], [5.0]]), torch.arange(3)
    moved = torch.tensor([[0.4], [0.6], [0.6]])
    assert nearest_mean_accuracy(line, cluster, moved, cluster) == pytest.approx(2 / 3)


def test_the_same_seed_gives_the_same_model_and_leaves_torchs_generator_alone() -> None:
    pixels, config = draw_points(100, draw(0)).pixels, BinaryVAEConfig(num_steps=5, seed=3)
    torch.manual_seed(0)
    first, history = train_binary_vae(pixels, config)
    after = torch.rand(1)
    torch.manual_seed(0)
    torch.testing.assert_close(torch.rand(1), after)
    second, again = train_binary_vae(pixels, config)
    torch.testing.assert_close(history, again, rtol=0, atol=0)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="num_steps must be at least 1, got 0"):
        BinaryVAEConfig(num_steps=0)
    with pytest.raises(UserError, match="learning_rate must be above 0, got 0"):
        BinaryVAEConfig(learning_rate=0.0)
