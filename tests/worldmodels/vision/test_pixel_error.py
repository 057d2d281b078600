"""The error that V minimizes gives weight to small objects that move."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodels.data.batches import FrameBatch
from worldmodels.training.fit import step_generator
from worldmodels.vision import VAE, VAEConfig
from worldmodels.vision.metrics import mean_frame, score_vision
from worldmodels.vision.networks import to_unit
from worldmodels.vision.pixel_error import (
    MAX_MOVING_WEIGHT,
    MEAN_FRAME_ERROR,
    ErrorConfig,
    PixelError,
)


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


def landers(count: int, seed: int) -> FrameBatch:
    """Frames of a few moving pixels over a ground whose height differs from episode to episode."""
    random = np.random.default_rng(seed)
    frames = np.zeros((count, 64, 64, 3), np.uint8)
    still = np.zeros_like(frames)
    for frame, ground in zip(frames, still, strict=True):
        ground[random.integers(40, 60) :] = 255
        x, y = random.integers(4, 60, 2) // [1, 2]
        frame[:] = ground
        frame[y : y + 4, x : x + 4] = (128, 100, 230)
    return FrameBatch(torch.from_numpy(frames), torch.from_numpy(still))


def test_movement_weighs_as_much_as_the_differences_between_episodes() -> None:
    sample = landers(400, 0)
    error = PixelError(ErrorConfig(by_variance=True))
    error.fit(sample)
    assert 5.0 < error.moving_weight <= MAX_MOVING_WEIGHT
    images, ground = to_unit(sample.frames), to_unit(sample.still)
    mean = mean_frame(sample.frames).expand_as(images)
    of_movement = error(ground, images, sample.still)[0].mean().item()
    of_ground = error(mean, ground, sample.still)[0].mean().item()
    assert of_movement == pytest.approx(of_ground, rel=0.3)
    assert of_movement + of_ground == pytest.approx(MEAN_FRAME_ERROR, rel=0.2)
    # Without the weight, a V could gain little by showing what moves.
    plain_movement, plain_ground = (
        error(drawn, target)[0].mean().item()
        for drawn, target in ((ground, images), (mean, ground))
    )
    assert plain_movement < 0.15 * plain_ground


def test_episodes_that_are_alike_leave_moving_pixels_at_their_weight() -> None:
    error = PixelError(ErrorConfig(by_variance=True))
    frames = pole_frames(200, 0)
    error.fit(FrameBatch(frames, frames.float().mean(0).round().byte().expand_as(frames)))
    assert error.moving_weight == 1.0
