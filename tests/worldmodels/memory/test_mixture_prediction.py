"""The mixture over the next latent has the right density, mean and samples."""

from collections.abc import Sequence

import pytest
import torch
from torch import distributions

from tests.fixtures.tiny_models import outcome
from worldmodels.memory import MixturePrediction


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_prediction(
    *batch: int, latents: int = 3, mixtures: int = 4, seed: int = 0
) -> MixturePrediction:
    generator = draw(seed)
    shape = (*batch, latents, mixtures)
    log_pi, mu, log_sigma = (torch.randn(shape, generator=generator) for _ in range(3))
    return MixturePrediction(log_pi.log_softmax(-1), 3 * mu, log_sigma, outcome(*batch))


def one_mixture(
    log_pi: Sequence[float], mu: Sequence[float], log_sigma: Sequence[float], count: int
) -> MixturePrediction:
    """Make a batch of `count` copies of one mixture over one latent."""
    shape = (count, 1, len(mu))
    weights, means, widths = (torch.tensor(part).expand(shape) for part in (log_pi, mu, log_sigma))
    return MixturePrediction(weights, means, widths, outcome(count))


@pytest.mark.parametrize("batch", [(1,), (3,), (1, 1), (2, 5)])
def test_log_prob_is_torchs_mixture_in_each_dimension(batch: tuple[int, ...]) -> None:
    prediction = random_prediction(*batch)
    z = 2 * torch.randn(*batch, 3)
    mixture = distributions.MixtureSameFamily(
        distributions.Categorical(logits=prediction.log_pi),
        distributions.Normal(prediction.mu, prediction.log_sigma.exp()),
    )
    torch.testing.assert_close(prediction.log_prob(z), mixture.log_prob(z).sum(-1))


def test_temperature_zero_is_the_mean_of_the_likeliest_gaussian() -> None:
    prediction = random_prediction(7)
    best = prediction.log_pi.argmax(-1)
    sampled = prediction.sample(0.0)
    for row in range(7):
        for latent in range(3):
            assert sampled[row, latent] == prediction.mu[row, latent, best[row, latent]]
    torch.testing.assert_close(sampled, prediction.sample(1e-6, draw(0)), atol=0.02, rtol=0)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_temperature_multiplies_the_variance_of_one_gaussian(tau: float) -> None:
    prediction = one_mixture([0.0], [2.0], [0.5], 40_000)
    sampled = prediction.sample(tau, draw(1))
    assert sampled.mean().item() == pytest.approx(2.0, abs=0.06)
    assert sampled.var().item() == pytest.approx(tau * torch.tensor(1.0).exp().item(), rel=0.03)


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_temperature_divides_the_logits_of_the_mixture(tau: float) -> None:
    logits = torch.tensor([2.0, 0.0, 1.0])
    prediction = one_mixture(logits.log_softmax(0).tolist(), [-50.0, 0.0, 50.0], [0.0] * 3, 40_000)
    sampled = prediction.sample(tau, draw(2))[:, 0]
    fractions = (
        torch.stack([(sampled - centre).abs() < 20 for centre in (-50, 0, 50)]).float().mean(1)
    )
    torch.testing.assert_close(fractions, (logits / tau).softmax(0), atol=0.01, rtol=0)


def test_samples_are_those_of_the_density_and_dimensions_mix_on_their_own() -> None:
    prediction = random_prediction(1, latents=2, mixtures=3, seed=3)
    log_pi, mu, log_sigma = (
        part.expand(40_000, 2, 3)
        for part in (prediction.log_pi, prediction.mu, prediction.log_sigma)
    )
    many = MixturePrediction(log_pi, mu, log_sigma, outcome(40_000))
    sampled = many.sample(1.0, draw(0))
    mixture = distributions.MixtureSameFamily(
        distributions.Categorical(logits=prediction.log_pi[0]),
        distributions.Normal(prediction.mu[0], prediction.log_sigma[0].exp()),
    )
    spread = mixture.variance.sqrt()
    assert ((sampled.mean(0) - mixture.mean).abs() < 0.03 * spread).all()
    torch.testing.assert_close(sampled.var(0), mixture.variance, rtol=0.05, atol=0)
    assert torch.corrcoef(sampled.T)[0, 1].abs() < 0.02
    assert torch.equal(sampled, many.sample(1.0, draw(0)))


def test_the_mean_is_the_mixtures() -> None:
    prediction = random_prediction(2, 5)
    mixture = distributions.MixtureSameFamily(
        distributions.Categorical(logits=prediction.log_pi),
        distributions.Normal(prediction.mu, prediction.log_sigma.exp()),
    )
    torch.testing.assert_close(prediction.mean(), mixture.mean)


@pytest.mark.parametrize("mixtures", [1, 4])
def test_copies_meet_the_same_luck(mixtures: int) -> None:
    block = random_prediction(5, mixtures=mixtures)
    log_pi, mu, log_sigma = (
        part.repeat(3, 1, 1) for part in (block.log_pi, block.mu, block.log_sigma)
    )
    prediction = MixturePrediction(log_pi, mu, log_sigma, outcome(15))
    together = prediction.sample(1.0, draw(0), num_candidates=3)
    assert torch.equal(together, block.sample(1.0, draw(0)).repeat(3, 1))
    apart = prediction.sample(1.0, draw(0))
    assert not torch.equal(apart[:5], apart[5:10])
