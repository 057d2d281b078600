"""Gradients of samples are compared with gradients of the expectations that they estimate."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from tests.fixtures.tiny_models import mdnrnn, outcome, vae
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.memory import MDNRNN, MixturePrediction
from worldmodels.memory.mixture_gradient import attach_gradient, sample_derivatives, upper_tail

NAMES = ("log_pi", "mu", "log_sigma")
TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
COUNT = 200_000


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture_of(parts: Sequence[Tensor]) -> MixturePrediction:
    """Make a prediction from log_pi, mu and log_sigma."""
    log_pi, mu, log_sigma = parts
    return MixturePrediction(log_pi, mu, log_sigma, outcome(len(mu)))


def prediction_of(action: Tensor) -> MixturePrediction:
    """Make a mixture of three Gaussians whose parameters all depend on the action (1,)."""
    log_pi = torch.stack([0.8 * action, -0.3 * action, 0.4 - action], -1)
    mu = torch.stack([0.5 + action, -0.7 + 0.2 * action, 1.4 - 0.6 * action], -1)
    log_sigma = torch.stack([-0.3 + 0.4 * action, 0.1 - 0.5 * action, 0.2 * action], -1)
    parts = [part.expand(-1, 1, 3) for part in (log_pi.log_softmax(-1), mu, log_sigma)]
    return mixture_of(parts)


def tempered(prediction: MixturePrediction, temperature: float) -> distributions.Distribution:
    """Return the distribution of one latent at a temperature, as a torch distribution."""
    width = prediction.log_sigma[0, 0].exp() * temperature**0.5
    return distributions.MixtureSameFamily(
        distributions.Categorical(logits=prediction.log_pi[0, 0] / temperature),
        distributions.Normal(prediction.mu[0, 0], width),
    )


def exact_gradient(
    function: Callable[[Tensor], Tensor], temperature: float, action: float
) -> float:
    """Compute the derivative of E[function(z)] in the action, by quadrature in float64."""
    point = torch.tensor([[action]], dtype=torch.float64, requires_grad=True)
    grid = torch.linspace(-15, 15, 30_001, dtype=torch.float64)
    density = tempered(prediction_of(point), temperature).log_prob(grid).exp()
    expectation = torch.trapezoid(density * function(grid), grid)
    return torch.autograd.grad(expectation, point)[0].item()


@TEMPERATURES
@pytest.mark.parametrize(
    "function",
    [lambda z: z, torch.square, lambda z: torch.tanh(2 * z - 1)],
    ids=["mean", "square", "tanh"],
)
def test_the_mean_gradient_of_samples_is_the_gradient_of_the_expectation(
    function: Callable[..., Any], temperature: float
) -> None:
    exact = exact_gradient(function, temperature, 0.3)
    action = torch.full((COUNT, 1), 0.3, requires_grad=True)
    sampled = prediction_of(action).sample(temperature, draw(1))[:, 0]
    each = torch.autograd.grad(function(sampled).sum(), action)[0][:, 0]
    error = each.std().item() / COUNT**0.5
    assert each.mean().item() == pytest.approx(exact, abs=4 * error)
    assert abs(exact) > 20 * error  # a gradient without its log_pi part is far outside


@TEMPERATURES
def test_the_gradient_of_the_mean_and_the_variance_are_torchs_in_every_parameter(
    temperature: float,
) -> None:
    leaf = [getattr(prediction_of(torch.tensor([[0.3]])), name) for name in NAMES]
    exact_at = [part.clone().requires_grad_() for part in leaf]
    mixture = tempered(mixture_of(exact_at), temperature)
    many = [part.expand(COUNT, 1, 3).clone().requires_grad_() for part in leaf]
    sampled = mixture_of(many).sample(temperature, draw(2))[:, 0]
    mean = mixture.mean.detach()
    for of_one, of_sample in (
        (mixture.mean, sampled),
        (mixture.variance, (sampled - mean).square()),
    ):
        expected = torch.autograd.grad(
            of_one, exact_at, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        found = torch.autograd.grad(of_sample.sum(), many, retain_graph=True)
        for one, each in zip(expected, found, strict=True):
            error = each[:, 0].std(0) / COUNT**0.5
            assert ((each[:, 0].mean(0) - one[0, 0]).abs() < 4.5 * error).all()


def test_a_sample_keeps_its_share_of_the_probability_where_parameters_move() -> None:
    generator = draw(0)
    parts = [torch.randn(50, 4, generator=generator).double() for _ in range(3)]
    sample, temperature = 1.5 * torch.randn(50, generator=generator).double(), 1.3

    def fraction(*moved: Tensor) -> Tensor:
        log_pi, mu, log_sigma = moved
        width = log_sigma.exp() * temperature**0.5
        below = distributions.Normal(mu, width).cdf(sample[:, None])
        total: Tensor = ((log_pi / temperature).softmax(-1) * below).sum(-1)
        return total

    leaves = [part.clone().requires_grad_() for part in parts]
    numerators = torch.autograd.grad(fraction(*leaves).sum(), leaves)
    mixture = distributions.MixtureSameFamily(
        distributions.Categorical(logits=parts[0] / temperature),
        distributions.Normal(parts[1], parts[2].exp() * temperature**0.5),
    )
    density = mixture.log_prob(sample).exp()[:, None]
    log_pi, mu, log_sigma = parts
    found = sample_derivatives(sample, log_pi, mu, log_sigma, temperature)
    for one, numerator in zip(found, numerators, strict=True):
        torch.testing.assert_close(one, -numerator / density, rtol=1e-5, atol=1e-6)


def test_tails_and_gaps_are_finite_and_right_in_single_precision() -> None:
    log_pi = torch.tensor([0.6, 0.4]).log().expand(6, 2)
    mu = torch.tensor([-5.0, 5.0]).expand(6, 2)
    log_sigma = torch.tensor([0.0, -0.7]).expand(6, 2)
    sample = torch.tensor([-10.5, -9.0, 0.0, 1.0, 7.0, 7.7])
    found = sample_derivatives(sample, log_pi, mu, log_sigma, 1.0)
    expected = sample_derivatives(
        sample.double(), log_pi.double(), mu.double(), log_sigma.double(), 1.0
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)
    # Where one Gaussian alone matters, its weight moves the ends of the mixture as far as the
    # ratio of tail and density says, about 1 / 5.5 of its width there.
    assert 0.4 / 6.0 < -found[0][0, 0].item() < 0.4 / 5.5
    nowhere = sample_derivatives(torch.tensor([1e3]), log_pi[:1], mu[:1], log_sigma[:1], 1.0)
    assert all(part.isfinite().all() for part in nowhere)


def test_the_upper_tail_is_the_normal_distributions() -> None:
    deviation = torch.linspace(0, 6, 601)
    expected = torch.special.log_ndtr(-deviation.double()).exp()
    found = upper_tail(deviation).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("mixtures", [1, 5])
def test_samples_are_the_same_numbers_with_and_without_gradients(
    mixtures: int, temperature: float
) -> None:
    generator = draw(0)
    parts = [torch.randn(8, 3, mixtures, generator=generator) for _ in range(3)]
    leaves = [part.clone().requires_grad_() for part in parts]
    plain = mixture_of(parts).sample(temperature, draw(1), num_candidates=2)
    tracked = mixture_of(leaves).sample(temperature, draw(1), num_candidates=2)
    assert torch.equal(plain, tracked.detach())
    assert tracked.requires_grad and not plain.requires_grad
    with torch.no_grad():
        quiet = mixture_of(leaves).sample(temperature, draw(1), num_candidates=2)
    assert torch.equal(quiet, plain) and not quiet.requires_grad


def test_one_gaussian_has_the_same_gradient_either_way() -> None:
    mu, log_sigma = torch.randn(2, 9, 1, generator=draw(0)).requires_grad_().unbind(0)
    log_pi = torch.zeros(9, 1, requires_grad=True)
    sample = mu[..., 0] + 1.5**0.5 * log_sigma[..., 0].exp() * torch.randn(9, generator=draw(1))
    expected = torch.autograd.grad(sample.sum(), (mu, log_sigma))
    found = torch.autograd.grad(
        attach_gradient(sample.detach(), log_pi, mu, log_sigma, 1.5).sum(), (log_pi, mu, log_sigma)
    )
    assert found[0].abs().max() < 1e-6
    torch.testing.assert_close(found[1:], expected, rtol=1e-5, atol=1e-6)


def small_world(mixtures: int) -> DreamModel:
    """Make V and M of one latent, where all parameters of the mixture depend on the action."""
    memory = mdnrnn(4, num_latents=1, num_actions=3, num_mixtures=mixtures)
    with torch.no_grad():
        memory.mixture.weight.mul_(4.0)
        memory.lstm.weight_input.mul_(3.0)
    for weight in memory.parameters():
        weight.requires_grad_(False)
    return DreamModel(vae(num_latents=1), memory)


def two_rewards(dream: DreamModel, action: Tensor, latent_noise: torch.Generator) -> Tensor:
    """Return the sum of the rewards of two agent steps, (B,); latents are sampled."""
    count = len(action)
    state = DreamState(torch.full((count, 1), 0.4), dream.memory.initial(count), torch.ones(count))
    total = torch.zeros(count)
    for _ in range(2):
        state, reward = dream.step(state, action, latent_noise)
        total = total + reward
    return total


@pytest.mark.parametrize("mixtures", [1, 2, 5])
def test_a_dreams_gradient_in_the_action_is_that_of_its_expected_return(mixtures: int) -> None:
    """The reward of the second agent step depends on the latent that the first step samples."""
    dream = small_world(mixtures)
    count = 60_000
    point = torch.tensor([0.2, 0.5, 0.1])
    action = point.repeat(count, 1).requires_grad_()
    each = torch.autograd.grad(two_rewards(dream, action, draw(5)).sum(), action)[0]

    def expected(moved: Tensor) -> Tensor:
        """Compute the expected return by quadrature over the second latent, in float64."""
        memory = dream.memory
        start = torch.full((1, 1), 0.4, dtype=torch.float64)
        state, first = memory.step(memory.initial(1), start, moved[None])
        grid = torch.linspace(-12, 12, 4_001, dtype=torch.float64)[:, None]
        assert isinstance(first, MixturePrediction)
        log_pi, mu, log_sigma = (getattr(first, n).expand(len(grid), -1, -1) for n in NAMES)
        wide = MixturePrediction(log_pi, mu, log_sigma, first.outcome)
        density = wide.log_prob(grid).exp()
        rows = torch.zeros(len(grid), dtype=torch.long)
        _, second = memory.step(state.rows(rows), grid, moved.expand(len(grid), -1))
        later = torch.trapezoid(density * second.outcome.reward, grid[:, 0])
        return first.outcome.reward[0] + later

    assert isinstance(dream.memory, MDNRNN)
    dream.memory.double()
    wide_point = point.double().requires_grad_()
    exact = torch.autograd.grad(expected(wide_point), wide_point)[0]
    error = each.std(0) / count**0.5
    assert ((each.mean(0) - exact).abs() < 4 * error).all()
    assert exact.abs().max() > 20 * error.max()
