from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import frames, vqvae
from worldmodels.errors import UserError
from worldmodels.memory.codes import to_digits
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.vision import VQVAE, VQVAEConfig, restore_vision, vision_metadata
from worldmodels.vision.networks import to_frames, to_unit

FRAMES = torch.from_numpy(frames(16))
KINDS = pytest.mark.parametrize("quantizer", ["vq", "fsq"])


def fitted(quantizer: str, **changes: Any) -> VQVAE:
    """Train V for a few steps, so that a learned codebook differs from its initial state."""
    model = vqvae(quantizer, **changes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        model.loss(FRAMES)[0].backward()
        optimizer.step()
    return model.eval()


def quantized_in_training_code(model: VQVAE) -> tuple[Tensor, Tensor, Tensor]:
    """Return the encoder's vectors, the quantized vectors and the codes, with one row per cell."""
    grid = model.encoder(to_unit(FRAMES))
    quantized, codes, _ = model._quantize(grid)
    return grid.flatten(2).transpose(1, 2), quantized, codes


@KINDS
@pytest.mark.parametrize("grid", [4, 8])
def test_codes_stand_for_the_vectors_that_training_saw(quantizer: str, grid: int) -> None:
    model = fitted(quantizer, grid=grid)
    codes = model.encode(FRAMES)
    assert codes.dtype == torch.int64 and codes.shape == (16, grid**2)
    assert codes.min() >= 0 and codes.max() < model.config.num_values
    assert len(codes.unique()) > 1
    _, vectors, _ = quantized_in_training_code(model)
    torch.testing.assert_close(model.code_vectors[codes], vectors, atol=1e-5, rtol=0)
    features = model.features(codes)
    assert features.shape == (16, model.num_features)
    torch.testing.assert_close(features, vectors.flatten(1), atol=1e-5, rtol=0)
    assert model.code_vectors.shape == (model.config.num_values, model.config.vector_size)


@KINDS
def test_decoding_codes_is_the_way_training_decodes(quantizer: str) -> None:
    model = fitted(quantizer)
    _, quantized, _ = quantized_in_training_code(model)
    in_training = to_frames(model._draw(quantized))
    decoded = model.decode(model.encode(FRAMES))
    assert decoded.dtype == torch.uint8 and decoded.shape == FRAMES.shape
    assert (decoded.int() - in_training.int()).abs().max() <= 1  # a rounding at .5


def test_a_learned_codebook_gives_the_nearest_vector() -> None:
    model = fitted("vq")
    vectors, _, codes = quantized_in_training_code(model)
    distance = torch.cdist(vectors, model.code_vectors[None].expand(16, -1, -1))
    assert torch.equal(distance.argmin(-1), codes)


def test_numbers_come_to_the_lattice_at_one_scale_a_cell() -> None:
    model = vqvae("fsq")
    model.train()
    for _ in range(200):
        numbers = model.encoder(to_unit(FRAMES)).flatten(1)
    std, mean = torch.std_mean(numbers, 0, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    assert std.min() > 0.9 and std.max() <= 1.0
    # Alone, a frame is scaled by what the data were, not by itself.
    alone = model.eval().encoder(to_unit(FRAMES[:1])).flatten(1)
    torch.testing.assert_close(alone, numbers[:1], atol=0.1, rtol=0)


def test_calibrated_codes_are_those_of_training() -> None:
    model = vqvae("fsq")
    model.train()
    with torch.no_grad():
        norm: Any = model.encoder[1]
        norm.weight.mul_(3.0)  # as fast as training may move it
        _, _, codes = quantized_in_training_code(model)
        model.eval()
        assert (model.encode(FRAMES) == codes).float().mean() < 0.9
    model.calibrate(FRAMES)
    assert not model.training
    assert (model.encode(FRAMES) == codes).float().mean() > 0.95


def test_the_codebook_is_the_papers_where_the_librarys_is_not() -> None:
    quantizer: Any = vqvae("vq", decay=0.99, commitment=0.25).quantizer
    codebook = quantizer._codebook
    assert (codebook.decay, quantizer.commitment_weight) == (0.99, 0.25)
    assert not codebook.initted  # k-means places it by the first batch
    assert codebook.threshold_ema_dead_code == 1 and not quantizer.rotation_trick


def test_dead_codes_are_revived() -> None:
    model = vqvae("vq", codebook_size=6)
    model.train()
    model.loss(FRAMES)  # places the codebook
    quantizer: Any = model.quantizer
    with torch.no_grad():
        quantizer._codebook.embed[:, 3:] = 100.0  # where nothing is
        quantizer._codebook.cluster_size[:, 3:] = 0.0
        quantizer._codebook.embed_avg[:, 3:] = 0.0
    for _ in range(3):
        model.loss(FRAMES)
    assert model.code_vectors.abs().max() < 50
    assert len(model.eval().encode(FRAMES).unique()) > 3


def test_digits_of_a_lattice_code_are_its_levels_the_first_one_fastest() -> None:
    model = vqvae("fsq", levels=(5, 3, 4))
    digits = to_digits(torch.arange(60), model.config.digit_sizes)
    for axis, size in enumerate((5, 3, 4)):
        values = model.code_vectors[:, axis]
        levels = values.unique()  # sorted, as digits are
        assert len(levels) == size
        assert torch.equal(levels[digits[:, axis]], values)


@KINDS
def test_gradients_of_the_error_alone_reach_the_encoder(quantizer: str) -> None:
    model = vqvae(quantizer, commitment=0.0)  # a commitment has a gradient of its own
    model.loss(FRAMES)[0].backward()
    encoder: Any = model.encoder
    assert encoder[0][0].weight.grad.abs().sum() > 0


@KINDS
def test_gradients_pass_the_quantizer_straight_through(quantizer: str) -> None:
    model = vqvae(quantizer)
    model.loss(FRAMES)
    grid = model.encoder(to_unit(FRAMES)).detach().requires_grad_()
    quantized, _, _ = model._quantize(grid)
    weight = torch.randn(quantized.shape, generator=torch.Generator().manual_seed(0))
    gradient = torch.autograd.grad((weight * quantized).sum(), grid)[0]
    passed = gradient.flatten(2).transpose(1, 2) / weight
    if quantizer == "vq":  # copied as it is
        torch.testing.assert_close(passed, torch.ones_like(passed))
    else:  # rounding has a derivative of 1, the bound before it that of a tanh
        assert passed.min() > 0 and passed.max() <= 1.5


def test_commitment_draws_the_encoder_to_its_codes_and_is_summed_over_numbers() -> None:
    model = vqvae("vq", commitment=0.25)
    model.loss(FRAMES)  # places the codebook
    vectors, quantized, codes = quantized_in_training_code(model.eval())
    chosen = model.code_vectors[codes].clone()
    expected = 0.25 * (vectors - chosen).square().sum((1, 2)).mean()
    decoded = model._draw(quantized)
    model.train()
    trained: Any = model.quantizer
    trained.freeze_codebook = True
    loss, metrics = model.loss(FRAMES)
    error = (decoded - to_unit(FRAMES)).square().sum((1, 2, 3)).mean()
    assert metrics["error"].item() == pytest.approx(error.item(), rel=1e-4)
    assert (loss - metrics["error"]).item() == pytest.approx(expected.item(), rel=1e-2, abs=1e-3)


def test_training_moves_the_codebook_by_averages_and_evaluation_does_not() -> None:
    model = vqvae("vq")
    model.loss(FRAMES)
    assert not [name for name, _ in model.named_parameters() if "codebook" in name]
    placed = model.code_vectors.clone()
    model.loss(FRAMES[:4])
    moved = model.code_vectors.clone()
    assert not torch.equal(placed, moved)
    model.eval().encode(FRAMES[8:])
    model.loss(FRAMES[8:])
    assert torch.equal(model.code_vectors, moved)


@KINDS
def test_a_round_trip_through_a_file_keeps_the_codebook(tmp_path: Path, quantizer: str) -> None:
    model = fitted(quantizer)
    path = tmp_path / "v.safetensors"
    metadata = {"vision": vision_metadata(model)}
    save_checkpoint(path, with_prefix("vision", model.state_dict()), metadata)
    loaded = restore_vision(load_checkpoint(path, hint=""), path)
    assert isinstance(loaded, VQVAE) and loaded.config == model.config
    codes = model.encode(FRAMES)
    assert torch.equal(loaded.encode(FRAMES), codes)
    assert torch.equal(loaded.features(codes), model.features(codes))
    assert torch.equal(loaded.decode(codes), model.decode(codes))


def test_a_code_is_its_own_posterior() -> None:
    model = vqvae("fsq")
    codes = model.encode(FRAMES)
    assert torch.equal(model.sample(codes), codes) and torch.equal(model.mode(codes), codes)


def test_sizes_follow_from_the_settings() -> None:
    vq = VQVAEConfig("vq", grid=8, codebook_size=512, code_size=2)
    assert (vq.num_codes, vq.digit_sizes, vq.num_values, vq.vector_size) == (64, (512,), 512, 2)
    fsq = VQVAEConfig("fsq", levels=(8, 6, 5))
    assert (fsq.num_codes, fsq.digit_sizes, fsq.num_values) == (16, (8, 6, 5), 240)
    assert (fsq.vector_size, vqvae("fsq", levels=(8, 6, 5)).num_features) == (3, 48)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match='quantizer must be one of vq, fsq, got "pq"'):
        VQVAEConfig("pq")
    with pytest.raises(UserError, match="grid must be 4 or 8, got 5"):
        VQVAEConfig(grid=5)
    with pytest.raises(UserError, match="codebook_size must be at least 2, got 1"):
        VQVAEConfig(codebook_size=1)
    with pytest.raises(UserError, match=r"each of the levels must be at least 3, got \(8, 2\)"):
        VQVAEConfig("fsq", levels=(8, 2))
