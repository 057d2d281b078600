"""Train V on the stored frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from worldmodels.data.batches import MAX_FRAMES_IN_MEMORY, FrameBatch, FrameBatches
from worldmodels.errors import UserError
from worldmodels.plotting import save_grid
from worldmodels.progress import PROCESS_BYTES, Report
from worldmodels.runs.checkpoint import load_checkpoint, load_weights, save_checkpoint, with_prefix
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.activations import COPIES_IN_TRAINING, activation_bytes
from worldmodels.training.device import device_of
from worldmodels.training.fit import Metrics
from worldmodels.training.stage import TrainingStage, TrainingStageConfig
from worldmodels.vision import (
    VQVAE,
    AnyVision,
    Vision,
    VisionConfig,
    VQVAEConfig,
    make_vision,
    restore_vision,
    vision_metadata,
)
from worldmodels.vision.batched import encode_frames
from worldmodels.vision.metrics import code_usage, mean_frame, score_vision
from worldmodels.vision.pictures import NUM_FRAMES, NUM_PATHS, interpolations, reconstructions
from worldmodels.vision.pixel_error import common_colors

MAX_HELD_OUT_FRAMES = 2_000
MAX_CALIBRATION_FRAMES = 5_000
MAX_START_FRAMES = 512
# A V that is not this many times better than the mean frame does not show what moves.
CLEAR_GAIN = 1.5
SHOWN = tuple(
    f"val/{name}" for name in ("error", "foreground_error", "psnr", "codes_used", "perplexity")
)


@dataclass(frozen=True, kw_only=True)
class VisionStageConfig(TrainingStageConfig):
    """Settings of V's training.

    Attributes:
        frame_stride: every `frame_stride`-th frame is used; None stands for the run's action
            repeat.
        recent_fraction: fraction of each batch that comes from episodes of the newest round. In the
            first round, this setting has no effect.
    """

    model: VisionConfig
    frame_stride: int | None = None
    recent_fraction: float = 0.5


@locks_run
def train_vision(
    run: Run, config: VisionStageConfig, *, report: Report, device: str = "cpu", round_: int = 1
) -> dict[str, Any]:
    """Train V, and write V, the metrics of V and pictures to the run's folder."""
    settings = run.settings
    run.store.refresh()
    run.store.require(run.folder)
    run.choose_kind(quantized=isinstance(config.model, VQVAEConfig))
    work = run.begin("vision", config, settings.seed, round_, report.log)
    if work is None:
        return run.result("vision") or {}
    fit, seed = config.in_round(round_), settings.seed
    stride = config.frame_stride or run.action_repeat
    recent, episodes = config.recent_fraction if round_ > 1 else 0.0, run.store.split(False)
    train = FrameBatches(episodes, fit.batch_size, stride=stride, recent_fraction=recent, seed=seed)
    stored = FrameBatches(run.store.split(held_out=True), 1, stride=stride)
    held_out, sample = stored.spread(MAX_HELD_OUT_FRAMES), train.spread(MAX_CALIBRATION_FRAMES)
    baseline = mean_frame(sample.frames)
    vision = _new_or_earlier(run, config, sample, round_).to(device)
    parameters = sum(p.numel() for p in vision.parameters())
    report.estimate(
        f"vision: {train.num_frames:,} frames, {fit.num_steps:,} batches of {fit.batch_size}, "
        f"{parameters:,} parameters, on {device}",
        disk_bytes=5 * parameters * 4,
        memory_bytes=_memory_bytes(vision, train, (*sample, *held_out), fit.batch_size),
        folder=run.folder,
    )
    result = TrainingStage(
        model=vision,
        batch_at=train,
        validate=lambda: _validate(vision, held_out, baseline, fit.batch_size, sample.frames),
        fit=fit,
        seed=seed + 1_000 * round_,
        shown=("loss", "error", *SHOWN),
        figures=lambda: {
            **(scores := score_vision(vision, held_out.frames, baseline)),
            **_epoch_usage(vision, train.all_frames()),
            **_warning(run, scores),
            "frames": train.num_frames,
        },
        write=lambda: _write(vision, held_out.frames, work),
    ).run(work, report)
    _log(result, report)
    return result


def _warning(run: Run, scores: dict[str, Any]) -> dict[str, str]:
    """Return a warning for result.json if V is not clearly better than the mean frame."""
    if scores["gain"] >= CLEAR_GAIN:
        return {}
    codes = ", train V longer, or use codes (--quantized, in another run)"
    other = ", or train V longer" if run.settings.quantized else codes
    return {
        "warning": f"V is only {scores['gain']:.1f} times better than the mean frame, so M and C "
        f"get little information about what happens: collect more episodes{other}"
    }


def _log(result: dict[str, Any], report: Report) -> None:
    report.log(
        f"vision: held-out squared error {result['error']:.1f} per frame "
        f"(mean frame {result['mean_frame_error']:.1f}, {result['gain']:.1f}x), "
        f"on the foreground {result['foreground_error']:.1f}, PSNR {result['psnr']:.1f} dB"
    )
    if "warning" in result:
        report.log(f"vision: {result['warning']}")
    if "perplexity" in result:
        report.log(
            f"vision: {result['codes_used']:.0%} of the codes used, "
            f"perplexity {result['perplexity']:.0f}, {result['bits_per_frame']:.0f} bits per frame"
        )


def _memory_bytes(
    vision: AnyVision, train: FrameBatches, others: Sequence[Tensor], batch_size: int
) -> float:
    """Return the bytes of memory for the process, the loaded frames and one batch in total."""
    frame = others[0][:1]
    in_layers = activation_bytes(vision, lambda v: v.decode(v.mode(v.encode(frame))))
    kept = min(train.num_frames, MAX_FRAMES_IN_MEMORY) + sum(len(frames) for frames in others)
    return PROCESS_BYTES + kept * frame.numel() + COPIES_IN_TRAINING * batch_size * in_layers


def _spread(frames: Tensor, most: int) -> Tensor:
    """Return a copy of at most `most` evenly spaced frames, so that `frames` can be freed."""
    return frames[:: max(1, -(-len(frames) // most))][:most].clone()


def _new_or_earlier(
    run: Run, config: VisionStageConfig, sample: FrameBatch, round_: int
) -> AnyVision:
    """Return the V of an earlier round, or else a new V that is initialized from `sample`."""
    model = replace(config.model, common_colors=common_colors(sample.frames.numpy()))
    torch.manual_seed(run.settings.seed)
    vision = make_vision(model)
    vision.init_from_data(_spread(sample.frames, MAX_START_FRAMES))
    vision.pixel_error.fit(sample)
    manifest = run.manifest("vision")
    if manifest is not None and manifest["round"] < round_:
        path = run.weights("vision")
        checkpoint = load_checkpoint(path, hint=f'run "wm train-vision --run {run}" again')
        if type(restore_vision(checkpoint, path).config) is not type(model):
            raise UserError(
                f"{path} holds a V of another kind than was requested for round {round_}: "
                "request the same kind as before, or name another folder with --run"
            )
        load_weights(vision, checkpoint.part("vision"), path)
    return vision


def _validate(
    vision: Vision, held_out: FrameBatch, baseline: Tensor, batch_size: int, sample: Tensor
) -> Metrics:
    """Return the loss, the errors and the usage of the codes over all held-out frames.

    `sample` holds training frames, with which `calibrate` updates V before V is scored.
    """
    device = device_of(vision)
    vision.calibrate(_spread(sample, MAX_START_FRAMES).to(device))
    generator = torch.Generator(device).manual_seed(0)
    totals: dict[str, float] = {}
    parts = (tensor.split(batch_size) for tensor in held_out)
    for part in map(FrameBatch, *parts):
        loss, metrics = vision.loss(part.to(device), generator)
        fraction = len(part.frames) / len(held_out.frames)
        for name, value in {"loss": loss, **metrics}.items():
            totals[name] = totals.get(name, 0.0) + float(value) * fraction
    return {**totals, **score_vision(vision, held_out.frames, baseline)}


def _epoch_usage(vision: Vision, frames: Tensor) -> dict[str, float]:
    """Return metrics of the usage of codes over the training frames; without codes, none.

    If not all training frames fit into memory, `frames` is the sample that
    `FrameBatches.all_frames` returns.
    """
    if not isinstance(vision, VQVAE):
        return {}
    usage = code_usage(encode_frames(vision, frames.numpy()), vision.config.num_values)
    return {f"epoch_{name}": value for name, value in usage.items()}


@torch.no_grad()
def _write(vision: Vision, held_out: Tensor, work: StageFolder) -> None:
    metadata = {"vision": vision_metadata(vision), "seed": work.work["seed"]}
    path = work.partial / "vision.safetensors"
    save_checkpoint(path, with_prefix("vision", vision.state_dict()), metadata)
    frames = _spread(held_out, NUM_FRAMES)
    save_grid(work.partial / "vision.png", reconstructions(vision, frames))
    if not vision.discrete and len(held_out) > 1:
        paths = interpolations(vision, _spread(held_out, 2 * NUM_PATHS))
        save_grid(work.partial / "interpolations.png", paths)
