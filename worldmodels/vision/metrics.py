"""Metrics of V on held-out frames: errors of reconstructions, and the usage of codes."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodels.training.device import device_of
from worldmodels.vision import VQVAE, Vision
from worldmodels.vision.networks import Frames, to_unit
from worldmodels.vision.pixel_error import (
    ErrorConfig,
    common_colors,
    foreground,
    rare,
    squared_error,
)

SCORE_BATCH = 256
Image = Float[Tensor, "3 64 64"]


def mean_frame(frames: Frames) -> Image:
    """Return the mean of the frames, with values within 0..1.

    The mean frame is the best output of a V that ignores its input.
    """
    return frames.float().mean(0).permute(2, 0, 1) / 255.0


@torch.no_grad()
def score_vision(
    vision: Vision, frames: Frames, baseline: Image, colors: ErrorConfig | None = None
) -> dict[str, Any]:
    """Measure the errors of the reconstructed frames, compared with the errors of `baseline`.

    Args:
        baseline: one picture that is compared with all frames, such as `mean_frame` of the training
            frames.
        colors: the settings that contain the common colors; if `colors` is None, V's config is
            used.

    The metrics are:

    - `error`, `mean_frame_error`: squared error of the reconstruction and of `baseline`, for values
      within 0..1. Each error is summed over a frame and averaged over frames.
    - `gain`: `mean_frame_error` divided by `error`.
    - `psnr`: peak signal-to-noise ratio of the reconstruction, computed from `error`, in dB.
    - `foreground_error`, `mean_frame_foreground_error`: the same errors on the foreground, which
      consists of the pixels without the commonest color and of the pixels around these pixels. In
      CarRacing the foreground shows road, curbs and car.
    - `rare_error`, `mean_frame_rare_error`: the same errors on the pixels that have none of the
      common colors. In CarRacing only curbs and car have rare colors.
    - `bits_per_frame`, `codes_used`, `perplexity`: size and usage of the codes of a quantized V;
      see `code_usage`.
    """
    vision.eval()
    device, colors = device_of(vision), colors or vision.config
    baseline = baseline.to(device)
    rows, posteriors = [], []
    for batch in frames.split(SCORE_BATCH):
        part = batch.to(device)
        images, posterior = to_unit(part), vision.encode(part)
        decoded = to_unit(vision.decode(vision.mode(posterior)))
        near, striking = foreground(images, colors).float(), rare(images, colors).float()
        base = baseline.expand_as(images)
        errors = [
            squared_error(drawn, images, weight)
            for weight in (None, near, striking)
            for drawn in (decoded, base)
        ]
        rows.append(torch.stack(errors))
        posteriors.append(posterior.cpu())
    parts, kinds = ("", "foreground_", "rare_"), ("", "mean_frame_")
    names = (f"{kind}{part}error" for part in parts for kind in kinds)
    result: dict[str, Any] = dict(zip(names, torch.cat(rows, 1).mean(1).tolist(), strict=True))
    error = max(result["error"], 1e-9)
    result["gain"] = result["mean_frame_error"] / error
    result["psnr"] = float(-10 * np.log10(error / frames[0].numel()))
    if isinstance(vision, VQVAE):
        num_values = vision.config.num_values
        result["bits_per_frame"] = vision.config.num_codes * float(np.log2(num_values))
        result.update(code_usage(torch.cat(posteriors), num_values))
    return result


def score_alike(vision: Vision, frames: Frames) -> dict[str, Any]:
    """Measure errors with the common colors of `frames`, so that different Vs are comparable.

    By default, `score_vision` uses the common colors of the frames on which V was trained.

    Returns: the metrics of `score_vision`, with the mean of `frames` as the baseline.
    """
    colors = ErrorConfig(common_colors=common_colors(frames[::5].numpy()))
    return score_vision(vision, frames, mean_frame(frames), colors)


def code_usage(codes: Int[Tensor, "frames code"], num_values: int) -> dict[str, float]:
    """Compute the fraction of the K values that are used, and the perplexity of the codes."""
    frequency = torch.bincount(codes.flatten(), minlength=num_values).double()
    frequency /= frequency.sum()
    entropy = -(frequency * frequency.clamp(min=1e-12).log()).sum()
    return {
        "codes_used": float((frequency > 0).double().mean()),
        "perplexity": float(entropy.exp()),
    }
