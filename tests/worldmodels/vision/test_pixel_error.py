"""The error that V minimizes gives weight to small objects that move."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodels.training.fit import step_generator
from worldmodels.vision import VAE, VAEConfig
from worldmodels.vision.metrics import mean_frame, score_vision
from worldmodels.vision.networks import to_unit
from worldmodels.vision.pixel_error import MEAN_FRAME_ERROR, ErrorConfig, PixelError


def pole_frames(count: int, seed: int) -> Tensor:
    """Make white frames with a pole of 12 black pixels at a random place near the middle."""
    frames = np.full((count, 64, 64, 3), 255, np.uint8)
    for frame, x in zip(frames, np.random.default_rng(seed).integers(24, 40, count), strict=True):
        frame[26:38, x] = 0
    return torch.from_numpy(frames)


def test_a_pixel_weighs_the_more_the_less_it_varies() -> None:
    frames = torch.zeros(8, 64, 64, 3, dtype=torch.uint8)
    frames[::2, 0, 0] = 255  # varies as much as a pixel can
    frames[0, 1, 1] = 255
    error = PixelError(ErrorConfig(by_variance=True))
    error.fit(frames)
    often, rarely, never = (error.weight[0, 0, i, i].item() for i in (0, 1, 2))
    # Variances over three channels: 3/4, 21/64 and 0; the typical one is the mean weighted by them.
    of_pixels = torch.tensor([3 / 4, 21 / 64, 0.0])
    typical = of_pixels.square().sum() / of_pixels.sum()
    expected = 1 / (of_pixels + typical)
    torch.testing.assert_close(
        torch.tensor([often, rarely, never]) / often, expected / expected[0], rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("contrast", [1, 255])
def test_the_mean_frame_has_the_same_error_in_every_environment(contrast: int) -> None:
    frames = pole_frames(200, 0) // 255 * contrast
    error = PixelError(ErrorConfig(by_variance=True))
    error.fit(frames)
    images = to_unit(frames)
    weighted, plain = error(mean_frame(frames).expand_as(images), images)
    assert weighted.mean().item() == pytest.approx(MEAN_FRAME_ERROR, rel=1e-3)
    assert plain.mean().item() == pytest.approx((images - images.mean(0)).square().sum() / 200)


def test_equal_frames_leave_the_weights_at_one_and_so_does_the_default() -> None:
    for config, frames in (
        (ErrorConfig(by_variance=True), pole_frames(1, 0).expand(4, -1, -1, -1)),
        (ErrorConfig(), pole_frames(9, 0)),
    ):
        error = PixelError(config)
        error.fit(frames)
        assert error.weight.unique().tolist() == [1.0]


def trained_gain(general: bool) -> float:
    """Train a VAE on frames with a thin pole, and return the VAE's gain over the mean frame."""
    torch.manual_seed(0)
    sizes = VAEConfig(4, "lean", channels=32, kl_weight=0.1, free_nats=0.25)
    config = replace(sizes, by_variance=general, normalize=general)
    model, frames = VAE(config), pole_frames(512, 1)
    model.init_from_data(frames)
    model.pixel_error.fit(frames)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(300):
        generator = step_generator(0, step)
        batch = frames[torch.randint(len(frames), (32,), generator=generator)]
        loss, _ = model.loss(batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.calibrate(frames)
    held_out = pole_frames(64, 2)
    return float(score_vision(model, held_out, mean_frame(frames))["gain"])


def test_a_vae_that_ignores_a_thin_pole_sees_it_with_the_general_error() -> None:
    assert trained_gain(general=False) < 1.1  # the posterior has collapsed
    assert trained_gain(general=True) > 5.0
