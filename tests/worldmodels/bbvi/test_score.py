import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodels.bbvi import (
    ALL_ESTIMATORS,
    Estimator,
    FactoredJoint,
    MeanFieldBernoulli,
    elbo_surrogate,
    score_surrogate,
)
from worldmodels.bbvi.families import VariationalFamily
from worldmodels.bbvi.joint import LogJoint
from worldmodels.bbvi.score import fitted_baseline, scores
from worldmodels.errors import UserError


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Replay(MeanFieldBernoulli):
    """A family that returns the samples that the test has set."""

    samples: Tensor

    def sample(self, num_samples: int, generator: torch.Generator) -> Tensor:
        return self.samples


def two_coins() -> FactoredJoint:
    """Make a joint of two coins, with one term per coin and one term that links the coins."""
    table = torch.randn(3, 2, 2, generator=draw(0), dtype=torch.float64)

    def terms(z: Tensor) -> Tensor:
        a, b = z.long().T
        return torch.stack([table[0, 0, a], table[1, a, b], table[2, b, 0]], 1)

    return FactoredJoint(terms, torch.tensor([[1, 1, 0], [0, 1, 1]], dtype=torch.bool))


def exact_elbo(model: LogJoint, family: VariationalFamily) -> Tensor:
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    log_q = family.log_prob(every).sum(-1)
    return (log_q.exp() * (model(every) - log_q)).sum()


FEWEST = {"none": 1, "leave-one-out": 2, "fitted": 3}


@pytest.mark.parametrize(
    ("estimator", "num_samples"),
    [(e, s) for e in ALL_ESTIMATORS[:6] for s in (1, 2, 3) if s >= FEWEST[e.control]],
    ids=str,
)
def test_the_mean_over_all_possible_samples_is_the_exact_gradient(
    estimator: Estimator, num_samples: int
) -> None:
    """All estimators are unbiased, which this test shows exactly instead of within an error bar."""
    model, family = two_coins(), Replay(2).double()
    with torch.no_grad():
        family.logits.copy_(torch.tensor([0.5, -0.8]))
    model.check(torch.bernoulli(torch.full((50, 2), 0.5), generator=draw(1)))
    (exact,) = torch.autograd.grad(exact_elbo(model, family), family.logits)
    mean = torch.zeros_like(exact)
    for bits in itertools.product([0.0, 1.0], repeat=2 * num_samples):
        family.samples = torch.tensor(bits, dtype=torch.float64).view(num_samples, 2)
        surrogate, _ = elbo_surrogate(model, family, estimator, num_samples, draw(0))
        (gradient,) = torch.autograd.grad(surrogate, family.logits)
        mean += family.log_prob(family.samples).sum().exp().detach() * gradient
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-9)


def test_leave_one_out_by_hand() -> None:
    log_q = torch.zeros(3, requires_grad=True)
    score_surrogate(log_q, torch.tensor([1.0, 2.0, 6.0])).backward()
    # each signal less the mean of the other two, over three samples
    torch.testing.assert_close(log_q.grad, torch.tensor([1 - 4.0, 2 - 3.5, 6 - 1.5]) / 3)


@pytest.mark.parametrize("control", ["none", "leave-one-out"])
@pytest.mark.parametrize("factors", [(), (4,), (4, 2)])
def test_samples_are_averaged_and_factors_summed(control: str, factors: tuple[int, ...]) -> None:
    log_q, signal = (torch.randn(5, *factors, generator=draw(s)) for s in (0, 1))
    whole = score_surrogate(log_q, signal, control)
    columns = [
        score_surrogate(log_q.view(5, -1)[:, i], signal.view(5, -1)[:, i], control)
        for i in range(log_q.view(5, -1).shape[1])
    ]
    torch.testing.assert_close(whole, torch.stack(columns).sum())
    if control == "none":
        torch.testing.assert_close(whole, (log_q * signal).sum() / 5)


def test_the_signal_is_a_constant_and_its_level_does_not_matter() -> None:
    log_q = torch.randn(6, 2, generator=draw(0))
    signal = torch.randn(6, 2, generator=draw(1), requires_grad=True)
    assert not score_surrogate(log_q, signal).requires_grad
    shifted = signal + torch.tensor([1000.0, -50.0])
    torch.testing.assert_close(
        score_surrogate(log_q, shifted), score_surrogate(log_q, signal), atol=1e-3, rtol=0
    )


def test_scores_are_the_gradients_one_by_one() -> None:
    family = MeanFieldBernoulli(3)
    family.frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    family.unused = torch.nn.Parameter(torch.zeros(1))
    z = family.sample(4, draw(0))
    log_q = family.log_prob(z)
    score = scores(log_q, family.parameters())
    assert score.shape == (4, 3, 4)
    expected = torch.diag_embed(z - family.logits.detach().sigmoid())
    torch.testing.assert_close(score[..., :3], expected)
    assert (score[..., 3] == 0).all()


def test_the_fitted_scale_is_the_covariance_over_the_variance_of_the_others() -> None:
    generator = draw(0)
    score = torch.randn(7, 2, 3, generator=generator, dtype=torch.float64) + 0.5
    signal = torch.randn(7, 2, generator=generator, dtype=torch.float64) + 20
    fitted = fitted_baseline(score, signal)
    f = (score * signal[..., None]).numpy()
    for sample, factor in itertools.product(range(7), range(2)):
        rest = np.arange(7) != sample
        pairs = [np.cov(f[rest, factor, d], score[rest, factor, d]) for d in range(3)]
        expected = sum(pair[0, 1] for pair in pairs) / sum(pair[1, 1] for pair in pairs)
        assert fitted[sample, factor].item() == pytest.approx(expected, rel=1e-9)


def test_a_constant_signal_is_fitted_exactly_and_scores_that_do_not_vary_fit_nothing() -> None:
    score = torch.randn(5, 1, 2, generator=draw(0))
    signal = torch.full((5, 1), -7.0)
    torch.testing.assert_close(fitted_baseline(score, signal), signal)
    alike = torch.full((5, 1, 2), 0.3)
    assert (fitted_baseline(alike, signal) == 0).all()


def test_too_few_samples_and_unknown_controls_are_refused() -> None:
    one, two = torch.zeros(1, 2), torch.zeros(2, 2)
    with pytest.raises(UserError, match='"leave-one-out" needs at least 2 samples, got 1'):
        score_surrogate(one, one)
    with pytest.raises(UserError, match='"fitted" needs at least 3 samples, got 2'):
        fitted_baseline(torch.zeros(2, 2, 4), two)
    with pytest.raises(UserError, match='must be one of none, leave-one-out, got "fitted"'):
        score_surrogate(two, two, "fitted")
    with pytest.raises(UserError, match=r'method must be one of score, .*, got "reinforce"'):
        Estimator("reinforce")
    with pytest.raises(UserError, match=r'control must be one of none, .*, got "loo"'):
        Estimator("score", "loo")
    with pytest.raises(UserError, match="pathwise method takes no control variate"):
        Estimator("pathwise")
