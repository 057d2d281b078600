"""Train V on the stored frames."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldmodels.checkpoint import load_checkpoint, load_weights, save_checkpoint, with_prefix
from worldmodels.data.batches import FrameBatches
from worldmodels.encoding import ENCODE_BATCH
from worldmodels.pictures import save_grid
from worldmodels.report import Report
from worldmodels.run import Run, StageFolder
from worldmodels.stages.fitting import TrainingStageConfig, fit_stage
from worldmodels.training import Metrics
from worldmodels.vision import (
    VAE,
    VQVAE,
    Vision,
    VisionConfig,
    VQVAEConfig,
    make_vision,
    vision_metadata,
)
from worldmodels.vision.objective import background_colour

MAX_HELD_OUT_FRAMES = 2_000
MAX_CALIBRATION_FRAMES = 5_000


@dataclass(frozen=True, kw_only=True)
class VisionStageConfig(TrainingStageConfig):
    """How V is trained.

    Attributes:
        frame_stride: every such frame is used; None takes the env's action repeat.
        recent_fraction: part of each batch that comes from the newest round.
    """

    model: VisionConfig
    frame_stride: int | None = None
    recent_fraction: float = 0.5


def train_vision(
    run: Run,
    config: VisionStageConfig,
    *,
    report: Report,
    device: str = "cpu",
    round_: int = 1,
) -> dict[str, Any]:
    """Train V and write it, its figures and its picture to the run's folder."""
    settings = run.settings
    run.store.refresh()
    run.store.require(run.folder)
    run.choose_kind(quantized=isinstance(config.model, VQVAEConfig))
    work = run.begin("vision", config, settings.seed, round_)
    if work is None:
        report.line(f"vision: done, {run.folder / 'vision'}")
        return run.result("vision") or {}
    fit = config.in_round(round_)
    stride = config.frame_stride or run.action_repeat
    train = FrameBatches(
        run.store.split(held_out=False),
        fit.batch_size,
        stride=stride,
        recent_fraction=config.recent_fraction if round_ > 1 else 0.0,
        seed=settings.seed,
    )
    held_out = _spread(
        FrameBatches(run.store.split(held_out=True), 1, stride=stride).all_frames(),
        MAX_HELD_OUT_FRAMES,
    )
    sample = _spread(train.all_frames(), MAX_CALIBRATION_FRAMES)
    vision = _new_or_earlier(run, config, sample, round_).to(device)
    report.plan(
        f"vision: {train.num_frames:,} frames, {fit.num_steps:,} batches of {fit.batch_size}, "
        f"{sum(p.numel() for p in vision.parameters()):,} parameters, on {device}",
        disk_bytes=5 * sum(p.numel() * 4 for p in vision.parameters()),
        folder=run.folder,
    )
    result = fit_stage(
        vision,
        train,
        lambda: _held_out_loss(vision, held_out, fit.batch_size),
        fit,
        work=work,
        seed=settings.seed + 1_000 * round_,
        report=report,
        shown=("loss", "error", "val/error"),
        on_done=lambda: {
            **score_vision(vision, held_out, mean_frame(sample)),
            "frames": train.num_frames,
        },
        write=lambda: _write(vision, held_out, work),
    )
    report.line(
        f"vision: held-out squared error {result['error']:.1f} a frame "
        f"(mean frame {result['mean_frame_error']:.1f}, {result['gain']:.1f}x)"
    )
    return result


def mean_frame(frames: UInt8[Tensor, "frames 64 64 3"]) -> Tensor:
    """The mean of the frames, float (3, 64, 64) in 0..1: what a V that sees nothing would draw."""
    return frames.float().mean(0).permute(2, 0, 1) / 255.0


@torch.no_grad()
def score_vision(
    vision: Vision, frames: UInt8[Tensor, "frames 64 64 3"], baseline: Tensor
) -> dict[str, Any]:
    """Squared error of reconstructions, in units of full scale summed over a frame.

    Beside it that of the mean frame, PSNR in dB, and for codes how much of the codebook is used.
    """
    vision.eval()
    device = next(vision.parameters()).device
    errors, base_errors, posteriors = [], [], []
    for part in frames.split(ENCODE_BATCH):
        posterior = vision.encode(part.to(device))
        decoded = vision.decode(vision.mode(posterior)).cpu()
        images = part.float() / 255.0
        errors.append((decoded.float() / 255.0 - images).square().flatten(1).sum(1))
        base = baseline.cpu().permute(1, 2, 0)
        base_errors.append((images - base).square().flatten(1).sum(1))
        posteriors.append(posterior.cpu())
    error = float(torch.cat(errors).mean())
    base_error = float(torch.cat(base_errors).mean())
    result: dict[str, Any] = {
        "error": error,
        "mean_frame_error": base_error,
        "gain": base_error / max(error, 1e-9),
        "psnr": float(-10 * np.log10(max(error, 1e-9) / images[0].numel())),
    }
    if isinstance(vision, VQVAE):
        result.update(code_usage(torch.cat(posteriors), vision.config.num_values))
    return result


def code_usage(codes: Tensor, num_values: int) -> dict[str, float]:
    """Share of the codebook used, its perplexity, and bits a frame, over all codes given."""
    frequency = torch.bincount(codes.flatten(), minlength=num_values).double()
    frequency /= frequency.sum()
    entropy = -(frequency * frequency.clamp(min=1e-12).log()).sum()
    return {
        "codes_used": float((frequency > 0).double().mean()),
        "perplexity": float(entropy.exp()),
        "bits_per_frame": codes.shape[1] * float(np.log2(num_values)),
    }


def _spread(frames: Tensor, most: int) -> Tensor:
    """At most so many frames, evenly spread."""
    return frames[:: max(1, -(-len(frames) // most))]


def _new_or_earlier(run: Run, config: VisionStageConfig, sample: Tensor, round_: int) -> Vision:
    """A fresh V that begins at the mean frame; in later rounds, the V of the round before."""
    model = config.model
    if model.background_weight != 1.0:
        model = replace(model, background=background_colour(sample.numpy()))
    torch.manual_seed(run.settings.seed)
    vision = make_vision(model)
    vision.start_at(mean_frame(sample))
    manifest = run.manifest("vision")
    if manifest is not None and manifest["round"] < round_:
        path = run.weights("vision")
        checkpoint = load_checkpoint(path, remedy=f'run "wm train-vision --run {run}" again')
        load_weights(vision, checkpoint.part("vision"), path)
    return vision


def _held_out_loss(vision: Vision, frames: Tensor, batch_size: int) -> Metrics:
    device = next(vision.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    totals: dict[str, float] = {}
    for part in frames.split(batch_size):
        loss, metrics = vision.loss(part.to(device), generator)
        for name, value in {"loss": loss, **metrics}.items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(part) / len(frames)
    return totals


@torch.no_grad()
def _write(vision: Vision, held_out: Tensor, work: StageFolder) -> None:
    facts = {"vision": vision_metadata(vision), "seed": work.work["seed"]}
    path = work.partial / "vision.safetensors"
    save_checkpoint(path, with_prefix("vision", vision.state_dict()), facts)
    frames = _spread(held_out, 16)[:16]
    device = next(vision.parameters()).device
    decoded = vision.decode(vision.mode(vision.encode(frames.to(device)))).cpu()
    rows = {"frame": frames.numpy(), "decoded": decoded.numpy()}
    if isinstance(vision, VAE):
        rows["drawn from N(0, 1)"] = _prior_samples(vision, len(frames))
    save_grid(work.partial / "vision.png", rows)


def _prior_samples(vision: VAE, count: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, vision.config.num_latents, generator=generator)
    device = next(vision.parameters()).device
    return np.asarray(vision.decode(z.to(device)).cpu().numpy())
