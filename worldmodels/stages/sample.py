"""Sample new frames from the prior over V's latents, and save them as one picture."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels.dream.model import check_temperature
from worldmodels.errors import UserError, check_at_least
from worldmodels.plotting import save_grid
from worldmodels.prior.surprise import load_surprise
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.training.fit import step_generator
from worldmodels.vision import VAE, load_vision
from worldmodels.vision.batched import decode_frames


@dataclass(frozen=True)
class SampleConfig:
    """Settings of the sampled frames.

    Attributes:
        prior: whether to sample codes from the prior. If `prior` is False, latents of a continuous
            V are sampled from N(0, temperature^2).
        count: number of frames.
        temperature: temperature of the samples. At 0 the most likely values are taken, and at 1 the
            distribution is unchanged.
    """

    prior: bool = False
    count: int = 64
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 4096:
            raise UserError(f"expected 1 to 4,096 frames, got {self.count}")
        check_temperature(self.temperature)
        check_at_least(0, self, "seed")


def sample_frames(
    run: Run, config: SampleConfig, *, out: Path, report: Report, device: str = "cpu"
) -> dict[str, Any]:
    """Sample frames and write them as one picture.

    Raises: UserError if `prior` is True and V is continuous, or if `prior` is False and V is
        quantized.
    """
    if out.suffix != ".png":
        raise UserError(f"expected a picture name that ends in .png, got {out}")
    if not out.parent.is_dir():
        raise UserError(
            f"no folder {out.parent}: create it first, or name another folder with --out"
        )
    draw = _from_prior if config.prior else _from_normal
    frames, nats = draw(run, config, device)
    save_grid(out, _rows(frames))
    report.log(f"saved {len(frames)} sampled frames to {out}")
    result: dict[str, Any] = {"picture": str(out), "frames": len(frames)}
    if nats is not None:
        result["nats_per_frame"] = nats
    return result


def _from_prior(run: Run, config: SampleConfig, device: str) -> tuple[np.ndarray, float | None]:
    """Return frames that are sampled from the prior, and the mean surprise of these frames."""
    surprise = load_surprise(run, device)
    generator = step_generator(config.seed, 0, device)
    codes = surprise.prior.sample(config.count, config.temperature, generator)
    return decode_frames(surprise.vision, codes), float(surprise.of_codes(codes).mean())


def _from_normal(run: Run, config: SampleConfig, device: str) -> tuple[np.ndarray, float | None]:
    vision = load_vision(run, device)
    if not isinstance(vision, VAE):
        raise UserError(
            f"the V of {run} is quantized, and codes can only be sampled from the prior: "
            f'run "wm train-prior --run {run}", and add --prior'
        )
    shape = (config.count, vision.config.num_latents)
    z = config.temperature * torch.randn(shape, generator=step_generator(config.seed, 0))
    return decode_frames(vision, z), None


def _rows(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of a nearly square grid of frames; black frames fill the last row."""
    columns = math.ceil(math.sqrt(len(frames)))
    missing = -len(frames) % columns
    whole = np.concatenate([frames, np.zeros((missing, *frames.shape[1:]), frames.dtype)])
    return {
        f"drawn {first + 1} to {min(first + columns, len(frames))}": whole[first : first + columns]
        for first in range(0, len(frames), columns)
    }
