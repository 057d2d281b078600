from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import frames
from worldmodels.errors import UserError
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.vision import (
    CategoricalVAE,
    CategoricalVAEConfig,
    make_vision,
    restore_vision,
    vision_metadata,
)
from worldmodels.vision.networks import to_unit

FRAMES = torch.from_numpy(frames(6))
ESTIMATORS = pytest.mark.parametrize("estimator", ["score", "straight-through"])


def categorical(estimator: str = "score", seed: int = 0, **changes: Any) -> CategoricalVAE:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"channels": 4, "codebook_size": 3, "code_size": 2, "num_samples": 4}
    made = make_vision(CategoricalVAEConfig(estimator=estimator, **{**settings, **changes}))
    assert isinstance(made, CategoricalVAE)
    return made


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@ESTIMATORS
def test_the_loss_is_error_and_kl_to_uniform(estimator: str) -> None:
    model = categorical(estimator, num_samples=2, kl_weight=0.5)
    loss, metrics = model.loss(FRAMES, draw(1))
    prior = torch.distributions.Categorical(torch.ones(3) / 3)
    posterior = torch.distributions.Categorical(logits=model._logits(FRAMES))
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
    assert metrics["kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    codes = model._draw_codes(model._logits(FRAMES).log_softmax(-1), draw(1))
    assert codes.shape == (2, 6, 16)
    decoded = torch.stack([model._draw(model.code_vectors[c]) for c in codes])
    error = (decoded - to_unit(FRAMES)).square().sum((2, 3, 4)).mean()
    assert loss.item() == pytest.approx((error + 0.5 * kl).item(), rel=1e-5)


def test_draws_follow_the_posterior() -> None:
    model = categorical(num_samples=4000)
    log_q = model._logits(FRAMES[:1]).log_softmax(-1)
    codes = model._draw_codes(log_q, draw(0))
    for cell in range(16):
        fractions = torch.bincount(codes[:, 0, cell], minlength=3) / 4000
        torch.testing.assert_close(fractions, log_q[0, cell].exp(), atol=0.03, rtol=0)


def test_the_score_estimate_is_the_gradient_of_the_expectation() -> None:
    """All cells but one are certain, so the exact gradient is a sum over the codes of one cell."""
    model = categorical(num_samples=8, kl_weight=0.0)
    torch.nn.init.normal_(model.table.weight, std=3.0)
    few = FRAMES[:2]
    certain = torch.zeros(2, 16, 3)
    certain[:, 1:, 0] = 50.0
    open_logits = torch.tensor([[0.3, -0.2, 0.1], [-0.5, 0.4, 0.0]], requires_grad=True)

    class Fixed(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            whole = certain.clone()
            whole[:, 0] = open_logits
            logits: Tensor = whole.transpose(1, 2).unflatten(2, (4, 4))
            return logits

    model.encoder = torch.nn.Sequential(Fixed())
    errors = []
    for value in range(3):
        codes = torch.zeros(2, 16, dtype=torch.long)
        codes[:, 0] = value
        drawn = model._draw(model.code_vectors[codes])
        errors.append((drawn - to_unit(few)).square().sum((1, 2, 3)).detach())
    expectation = (open_logits.softmax(1) * torch.stack(errors, 1)).sum(1).mean()
    exact = torch.autograd.grad(expectation, open_logits)[0]
    generator = draw(0)
    estimates = []
    for _ in range(400):
        loss, _ = model.loss(few, generator)
        estimates.append(torch.autograd.grad(loss, open_logits)[0])
    stacked = torch.stack(estimates)
    error_of_mean = stacked.std(0) / 400**0.5
    assert ((stacked.mean(0) - exact).abs() < 4 * error_of_mean + 1e-6).all()
    assert exact.abs().max() > 5 * error_of_mean.max()  # the estimate says something


def test_straight_through_passes_the_gradient_of_the_probabilities() -> None:
    model = categorical("straight-through", num_samples=1, kl_weight=0.0)
    model.loss(FRAMES, draw(0))[0].backward()
    encoder: Any = model.encoder
    assert encoder[0][0].weight.grad.abs().sum() > 0
    assert encoder[-1].weight.grad.abs().sum() > 0


def test_straight_through_takes_the_one_hot_draw_for_the_probabilities() -> None:
    model = categorical("straight-through", num_samples=1, kl_weight=0.0)
    logits = model._logits(FRAMES).detach().requires_grad_()
    model._logits = lambda frames: logits  # type: ignore[method-assign]
    found = torch.autograd.grad(model.loss(FRAMES, draw(0))[0], logits)[0]
    codes = model._draw_codes(logits.log_softmax(-1), draw(0))[0]
    choice = torch.nn.functional.one_hot(codes, 3).float().requires_grad_()
    decoded = model._draw(choice @ model.code_vectors)
    error = (decoded - to_unit(FRAMES)).square().sum((1, 2, 3)).mean()
    of_choice = torch.autograd.grad(error, choice)[0]
    probabilities = logits.softmax(-1)
    expected = torch.autograd.grad((of_choice * probabilities).sum(), logits)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.abs().max() > 1e-3


@ESTIMATORS
def test_training_beats_the_mean_frame(estimator: str) -> None:
    model = categorical(estimator, channels=32, codebook_size=8, kl_weight=0.1, num_samples=16)
    few = FRAMES[:3]
    model.init_from_data(few)
    mean_error = (to_unit(few) - to_unit(few).mean(0)).square().sum((1, 2, 3)).mean()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = draw(0)
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(few, generator)[0].backward()
        optimizer.step()
    decoded = to_unit(model.decode(model.encode(few)))
    error = (decoded - to_unit(few)).square().sum((1, 2, 3)).mean()
    assert error < 0.6 * mean_error
    assert len(model.encode(few).unique(dim=0)) == 3  # it tells them apart


def test_a_round_trip_through_a_file_keeps_codes_and_kind(tmp_path: Path) -> None:
    model = categorical().eval()
    path = tmp_path / "v.safetensors"
    metadata = {"vision": vision_metadata(model)}
    save_checkpoint(path, with_prefix("vision", model.state_dict()), metadata)
    loaded = restore_vision(load_checkpoint(path, hint=""), path)
    assert isinstance(loaded, CategoricalVAE) and loaded.config == model.config
    codes = model.encode(FRAMES)
    assert codes.dtype == torch.int64 and torch.equal(loaded.encode(FRAMES), codes)
    assert torch.equal(loaded.decode(codes), model.decode(codes))
    assert torch.equal(loaded.features(codes), model.features(codes))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(
        UserError, match='estimator must be one of score, straight-through, got "x"'
    ):
        CategoricalVAEConfig(estimator="x")
    with pytest.raises(UserError, match="num_samples must be at least 2 for score, got 1"):
        CategoricalVAEConfig(num_samples=1)
    with pytest.raises(UserError, match='quantizer must be one of categorical, got "vq"'):
        CategoricalVAEConfig(quantizer="vq")
