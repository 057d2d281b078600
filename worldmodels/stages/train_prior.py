"""Train the prior over the codes of the stored frames."""

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor

from worldmodels.data.episode import Episode
from worldmodels.plotting import save_grid
from worldmodels.prior.baselines import (
    position_cross_entropy,
    position_entropy,
    unigram_cross_entropy,
)
from worldmodels.prior.pixelcnn import CodePrior, PriorConfig, PriorSettings, prior_metadata
from worldmodels.prior.surprise import load_vision_with_codes
from worldmodels.progress import PROCESS_BYTES, Report
from worldmodels.runs.checkpoint import save_checkpoint, with_prefix
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.activations import COPIES_IN_TRAINING, activation_bytes
from worldmodels.training.device import device_of
from worldmodels.training.fit import FitConfig, Metrics, step_generator
from worldmodels.training.stage import TrainingStage
from worldmodels.vision import VQVAE
from worldmodels.vision.batched import decode_frames, encode_frames

# If there are more frames, a larger stride skips some. A million frames of 64 codes with up to 256
# values are 64 MB.
MAX_TRAINING_FRAMES = 1_000_000
MAX_HELD_OUT_FRAMES = 10_000
VALIDATION_BATCH = 512
PICTURES = 16


@dataclass(frozen=True, kw_only=True)
class PriorStageConfig:
    """Settings of the prior's training, which starts anew in every round because V's codes change.

    Attributes:
        fit: settings of the fit; `batch_size` is the number of frames per batch.
    """

    model: PriorSettings = field(default_factory=PriorSettings)
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            1_000,
            64,
            learning_rate=1e-3,
            final_learning_rate=5e-5,
            max_gradient_norm=1.0,
            validate_every=100,
            patience=4,
        )
    )

    def with_steps(self, num_steps: int | None) -> "PriorStageConfig":
        """Return a config with `num_steps` optimizer steps; None stands for an unchanged config."""
        if num_steps is None:
            return self
        return replace(self, fit=replace(self.fit, num_steps=num_steps))


@locks_run
def train_prior(
    run: Run,
    config: PriorStageConfig,
    *,
    report: Report,
    device: str = "cpu",
    round_: int = 1,
) -> dict[str, Any]:
    """Train the prior, and write the prior, its metrics and a picture to the run's folder.

    Raises: UserError if the run's V is continuous, because the prior of continuous latents is
        N(0, 1) and needs no training.
    """
    settings = run.settings
    run.store.refresh()
    run.store.require(run.folder)
    vision = load_vision_with_codes(run, device)
    work = run.begin("prior", config, settings.seed, round_, report.log)
    if work is None:
        return run.result("prior") or {}
    fit, repeat = config.fit, run.action_repeat
    train = encode_codes(vision, run.store.split(False), repeat, MAX_TRAINING_FRAMES, report)
    held_out = encode_codes(vision, run.store.split(True), repeat, MAX_HELD_OUT_FRAMES, report)
    held_out = held_out.long()
    torch.manual_seed(settings.seed)
    prior = new_prior(config.model, vision)
    prior.calibrate(train)
    prior.to(device)
    size = sum(p.numel() for p in prior.parameters())
    report.estimate(
        f"prior: {len(train):,} frames of {train.shape[1]} codes, {fit.num_steps:,} batches of "
        f"{fit.batch_size}, {size:,} parameters, on {device}",
        disk_bytes=5 * size * 4,
        memory_bytes=_memory_bytes(prior, train, held_out, fit.batch_size),
        folder=run.folder,
    )
    result = TrainingStage(
        model=prior,
        batch_at=functools.partial(_codes_at, train, fit.batch_size),
        validate=lambda: _held_out_loss(prior, held_out),
        fit=fit,
        seed=settings.seed + 1_000 * round_ + 2,
        shown=("nats_per_code", "val/nats_per_code"),
        figures=lambda: {**score_prior(prior, train, held_out), "frames": len(train)},
        write=lambda: _write(vision, prior, run, work),
    ).run(work, report)
    report.log(
        f"prior: held-out {result['nats_per_code']:.3f} nats per code "
        f"(independent positions {result['position_entropy']:.3f}, uniform {result['log_k']:.3f})"
    )
    return result


def new_prior(settings: PriorSettings, vision: VQVAE) -> CodePrior:
    """Return a new prior over V's codes, with random weights."""
    codes = vision.config
    return CodePrior(PriorConfig(codes.num_codes, codes.digit_sizes, **asdict(settings)))


def _memory_bytes(prior: CodePrior, train: Tensor, held_out: Tensor, batch_size: int) -> float:
    """Return the bytes of memory for the process, all codes and one batch in total."""
    in_layers = activation_bytes(prior, lambda copied: copied.log_prob(held_out[:1]))
    kept = train.numel() * train.element_size() + held_out.numel() * held_out.element_size()
    return (
        PROCESS_BYTES
        + kept
        + in_layers * max(COPIES_IN_TRAINING * batch_size, min(VALIDATION_BATCH, len(held_out)))
    )


@torch.no_grad()
def score_prior(
    prior: CodePrior, train: Integer[Tensor, "frame code"], held_out: Int[Tensor, "held_out code"]
) -> dict[str, Any]:
    """Return held-out nats per code of the prior and of simple baselines, and bits per frame.

    `unigram_cross_entropy` and `position_cross_entropy` use the frequencies of the training codes,
    as a fitted model does. `position_entropy` uses the frequencies of the held-out codes, and is
    therefore harder to beat. `gain_over_position` is the fraction of `position_entropy` that the
    prior saves.
    """
    num_values = prior.config.num_values
    nats = _held_out_loss(prior.eval(), held_out)["nats_per_code"]
    harder = position_entropy(held_out, num_values)
    return {
        "nats_per_code": nats,
        "log_k": math.log(num_values),
        "unigram_cross_entropy": unigram_cross_entropy(train, held_out, num_values),
        "position_cross_entropy": position_cross_entropy(train, held_out, num_values),
        "position_entropy": harder,
        "gain_over_position": 1.0 - nats / max(harder, 1e-9),
        "bits_per_frame": nats * held_out.shape[1] / math.log(2.0),
        "held_out_frames": len(held_out),
    }


def _codes_at(codes: Tensor, batch_size: int, step: int, generator: torch.Generator) -> Tensor:
    """Return the codes of frames that are sampled with replacement; `step` has no effect."""
    picks = torch.randint(len(codes), (batch_size,), generator=generator)
    return codes[picks].long()


def encode_codes(
    vision: VQVAE,
    episodes: Sequence[Episode],
    stride: int,
    most: int,
    report: Report,
) -> Integer[Tensor, "frame code"]:
    """Return the codes of every `stride`-th frame, on the CPU.

    If there are more than `most` such frames, a larger stride is used, which leaves about `most`
    frames or fewer. Only the frames of one episode are in memory at a time. The codes have the
    smallest integer type that holds all values of a code.
    """
    total = sum(episode.num_steps // stride + 1 for episode in episodes)
    stride *= max(1, -(-total // most))
    parts = []
    for episode in report.track("encode", episodes):
        codes = encode_frames(vision, episode.load().frames[::stride]).numpy()
        parts.append(codes.astype(vision.posterior_type))
    return torch.from_numpy(np.concatenate(parts))


@torch.no_grad()
def _held_out_loss(prior: CodePrior, codes: Tensor) -> Metrics:
    device = device_of(prior)
    total = sum(
        -float(prior.log_prob(part.to(device)).cpu().double().sum())
        for part in codes.split(VALIDATION_BATCH)
    )
    nats = total / codes.numel()
    return {"loss": nats, "nats_per_code": nats}


@torch.no_grad()
def _write(vision: VQVAE, prior: CodePrior, run: Run, work: StageFolder) -> None:
    metadata = {
        "prior": prior_metadata(prior),
        "vision_digest": work.work["inputs"]["vision"],
        "seed": work.work["seed"],
    }
    path = work.partial / "prior.safetensors"
    save_checkpoint(path, with_prefix("prior", prior.state_dict()), metadata)
    frames = _pictured_frames(run)
    drawn = prior.sample(len(frames), generator=step_generator(0, 0, device_of(prior)))
    rows = {
        "frame": frames,
        "decoded": decode_frames(vision, encode_frames(vision, frames)),
        "drawn": decode_frames(vision, drawn),
    }
    save_grid(work.partial / "prior.png", rows)


def _pictured_frames(run: Run) -> np.ndarray:
    """Return `PICTURES` held-out frames, evenly spread over at most `PICTURES` episodes."""
    episodes = run.store.split(held_out=True)[:PICTURES]
    each = -(-PICTURES // len(episodes))
    frames = []
    for episode in episodes:
        stored = episode.load().frames
        frames.append(stored[np.linspace(0, len(stored) - 1, each + 2).astype(int)[1:-1]])
    return np.concatenate(frames)[:PICTURES]
