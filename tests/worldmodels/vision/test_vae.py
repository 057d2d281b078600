import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import frames, vae
from worldmodels.errors import UserError
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.vision import VAE, VAEConfig, restore_vision, vision_metadata
from worldmodels.vision.networks import to_frames, to_unit
from worldmodels.vision.pixel_error import (
    ErrorConfig,
    common_colors,
    error_weight,
    foreground,
    rare,
    squared_error,
)

FRAMES = torch.from_numpy(frames(5))


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_papers_network_has_the_papers_size() -> None:
    model = VAE(VAEConfig())
    assert sum(p.numel() for p in model.parameters()) == 4_348_547
    assert model.encode(FRAMES[:2]).shape == (2, 64)
    assert model.decode(torch.zeros(2, 32)).shape == (2, 64, 64, 3)


def test_a_latent_is_its_posteriors_mean_or_a_draw_from_it() -> None:
    model = vae()
    posterior = model.encode(FRAMES)
    assert posterior.shape == (5, 6) and posterior.dtype == torch.float32
    assert torch.equal(model.mode(posterior), posterior[:, :3])
    assert torch.equal(model.features(model.mode(posterior)), posterior[:, :3])
    wide = torch.tensor([[2.0, -1.0, 0.0, 0.0, 2 * np.log(3.0), -20.0]])
    wide = wide.float().expand(20_000, 6)
    drawn = model.sample(wide, draw(0))
    torch.testing.assert_close(drawn.mean(0), wide[0, :3], atol=0.07, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.tensor([1.0, 3.0, 0.0]), atol=0.05, rtol=0)
    assert torch.equal(drawn, model.sample(wide, draw(0)))


@pytest.mark.parametrize("network", ["lean", "paper"])
def test_the_loss_is_the_formula_on_the_same_draw(network: str) -> None:
    model = vae(network=network, kl_weight=0.3, free_nats=0.0)
    images = FRAMES.permute(0, 3, 1, 2).double() / 255
    posterior = model.encode(FRAMES)
    decoded = model.decoder(model.from_latent(model.sample(posterior, draw(4)))).double()
    error = sum(((a - b) ** 2).sum() for a, b in zip(decoded, images, strict=True)) / 5
    mu, logvar = posterior[:, :3], posterior[:, 3:]
    prior = torch.distributions.Normal(0.0, 1.0)
    approximate = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    kl = torch.distributions.kl_divergence(approximate, prior).sum() / 5
    loss, metrics = model.loss(FRAMES, draw(4))
    assert loss.item() == pytest.approx((error + 0.3 * kl).item(), rel=1e-5)
    assert metrics["error"].item() == pytest.approx(error.item(), rel=1e-5)
    assert metrics["kl"].item() == pytest.approx(kl.item(), rel=1e-4, abs=1e-5)


def test_below_its_floor_the_kl_is_constant_and_has_no_gradient() -> None:
    def kl_part(model: VAE) -> tuple[float, float, Tensor]:
        loss, metrics = model.loss(FRAMES, draw(0))
        gradient = torch.autograd.grad(loss - metrics["error"], model.to_logvar.bias)
        return loss.item() - metrics["error"].item(), metrics["kl"].item(), gradient[0]

    def with_logvar(bias: float, free_nats: float) -> tuple[float, float, Tensor]:
        # The decoder hears nothing of the latent, so that only the KL's gradient is left.
        model = vae(free_nats=free_nats, kl_weight=2.0)
        from_latent: Any = model.from_latent
        torch.nn.init.zeros_(from_latent[0].weight)
        for parameter in model.to_mean.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.constant_(model.to_logvar.bias, bias)
        return kl_part(model)

    floored, kl, gradient = with_logvar(-1.0, free_nats=0.5)
    assert kl < 0.5 * 3
    assert floored == pytest.approx(2 * 0.5 * 3, rel=1e-3)  # a dimension, not a frame
    assert not gradient.any()
    above, kl, gradient = with_logvar(-3.0, free_nats=0.5)
    assert kl > 0.5 * 3
    assert above == pytest.approx(2 * kl, rel=1e-3)
    assert gradient.all()


def test_the_lean_network_begins_at_the_mean_frame_and_tells_frames_apart() -> None:
    images = to_unit(FRAMES)
    alone = squared_error(images.mean(0).expand_as(images), images).mean()
    model = vae(channels=16)
    assert model.loss(FRAMES, draw(0))[1]["error"] > 1.05 * alone
    model.init_from_data(FRAMES)
    assert model.loss(FRAMES, draw(0))[1]["error"] < 1.03 * alone
    mu, logvar = model.encode(FRAMES).chunk(2, dim=-1)
    torch.testing.assert_close(mu.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(mu.std(0), torch.ones(3), atol=1e-3, rtol=0)
    assert logvar.max() < -0.5  # and says so with some certainty
    spread = (model.decoder(model.from_latent(mu)) - images.mean(0)).std()
    assert 0.03 < spread / (images - images.mean(0)).std() < 0.3
    model.loss(FRAMES, draw(0))[0].backward()
    decoder: Any = model.decoder
    assert decoder.mean_frame.grad.abs().sum() > 0  # and moves on from there


def test_at_a_light_kl_weight_only_the_decoder_is_fitted() -> None:
    model = vae(channels=16, kl_weight=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_from_data(FRAMES)
    after = model.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"decoder.last.weight", "decoder.mean_frame"}
    torch.testing.assert_close(after["decoder.last.weight"], before["decoder.last.weight"] / 2)
    torch.testing.assert_close(after["decoder.mean_frame"], to_unit(FRAMES).mean(0))


def test_the_papers_network_begins_as_torch_makes_it() -> None:
    model = VAE(VAEConfig())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_from_data(FRAMES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frames_survive_the_way_to_the_networks_and_back() -> None:
    assert torch.equal(to_frames(to_unit(FRAMES)), FRAMES)
    assert to_unit(FRAMES)[2, 1, 7, 9] == FRAMES[2, 7, 9, 1] / 255
    beyond = torch.tensor([-0.5, 0.4, 1.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert to_frames(beyond)[0, 0, 0].tolist() == [0, 102, 255]


def test_a_round_trip_through_a_file(tmp_path: Path) -> None:
    model = vae(common_colors=((1, 2, 3), (4, 5, 6)), background_weight=0.3)
    path = tmp_path / "v.safetensors"
    metadata = {"vision": vision_metadata(model)}
    save_checkpoint(path, with_prefix("vision", model.state_dict()), metadata)
    loaded = restore_vision(load_checkpoint(path, hint=""), path)
    assert isinstance(loaded, VAE) and loaded.config == model.config and not loaded.training
    assert torch.equal(loaded.encode(FRAMES), model.encode(FRAMES))
    wrong = {**vision_metadata(model), "config": dataclasses.asdict(VAEConfig(2, "lean", 4))}
    save_checkpoint(path, with_prefix("vision", model.state_dict()), {"vision": wrong})
    with pytest.raises(UserError, match=r"v\.safetensors does not fit its own config"):
        restore_vision(load_checkpoint(path, hint=""), path)


def test_the_common_colors_are_those_most_pixels_have_and_not_the_mean() -> None:
    picture = np.full((2, 64, 64, 3), 100, np.uint8)
    picture[:, :20] = (200, 10, 90)
    picture[:, 20:23, ::2] = 102  # the same cell of 16 levels: the median decides
    picture[:, 60, :32] = (250, 250, 250)  # less than a twentieth in all
    assert common_colors(picture) == ((100, 100, 100), (200, 10, 90))
    picture[:, :40] = (200, 10, 90)
    assert common_colors(picture) == ((200, 10, 90), (100, 100, 100))
    # A color takes with it what is near: the two greens of the grass are one.
    picture[:, 40:] = (200, 10, 130)
    assert common_colors(picture) == ((200, 10, 90),)


def test_the_foreground_and_two_pixels_around_it_weigh_one_and_the_rare_more() -> None:
    images = torch.full((1, 3, 16, 16), 100 / 255)
    images[0, 1, 8, 8] = 149 / 255  # 49 above the background in one channel is foreground
    images[0, :, 2, 2] = 147 / 255  # 47 is not
    colors = ((100, 100, 100), (100, 150, 100))
    config = ErrorConfig(background_weight=0.3, rare_weight=4.0, common_colors=colors)
    expected = torch.full((16, 16), 0.3)
    expected[6:11, 6:11] = 1.0  # as common as the road: foreground, but not rare
    torch.testing.assert_close(error_weight(images, config)[0, 0], expected)
    images[0, 0, 9, 9] = 1.0
    expected[6:12, 6:12] = 1.0
    expected[6, 11] = expected[11, 6] = 0.3  # two squares side by side, not one
    expected[9, 9] = 4.0
    torch.testing.assert_close(error_weight(images, config)[0, 0], expected)
    assert torch.equal(foreground(images, config)[0, 0], expected > 0.5)
    assert rare(images, config).nonzero().tolist() == [[0, 0, 9, 9]]


def test_the_weight_enters_the_loss_and_not_the_error_it_reports() -> None:
    still = torch.from_numpy(np.full((2, 64, 64, 3), 60, np.uint8))
    options: dict[str, Any] = {"common_colors": ((60, 60, 60),), "kl_weight": 0.0}
    plain = vae(**options).loss(still, draw(0))
    weighted = vae(background_weight=0.25, **options).loss(still, draw(0))
    assert weighted[0].item() == pytest.approx(0.25 * plain[0].item(), rel=1e-5)
    assert torch.equal(weighted[1]["error"], plain[1]["error"])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match='network must be one of paper, lean, got "fat"'):
        VAEConfig(network="fat")
    with pytest.raises(UserError, match="num_latents must be at least 1, got 0"):
        VAEConfig(num_latents=0)
