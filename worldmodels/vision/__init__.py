"""V, the vision model: it encodes frames as small latents, and decodes latents to frames."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worldmodels.errors import reading
from worldmodels.runs.checkpoint import Checkpoint, load_checkpoint, restore_module
from worldmodels.runs.run import Run
from worldmodels.vision.categorical import CategoricalVAE as CategoricalVAE
from worldmodels.vision.categorical import CategoricalVAEConfig as CategoricalVAEConfig
from worldmodels.vision.protocol import Vision as Vision
from worldmodels.vision.vae import VAE as VAE
from worldmodels.vision.vae import VAEConfig as VAEConfig
from worldmodels.vision.vqvae import VQVAE as VQVAE
from worldmodels.vision.vqvae import VQVAEConfig as VQVAEConfig

VisionConfig = VAEConfig | VQVAEConfig
AnyVision = VAE | VQVAE  # every implementation of `Vision`

# The class of V for each class of config. The attribute `kind` names a class in checkpoints.
_KINDS: dict[type[VisionConfig], type[AnyVision]] = {
    VAEConfig: VAE,
    VQVAEConfig: VQVAE,
    CategoricalVAEConfig: CategoricalVAE,
}

# Maps names of settings in files of earlier versions to the present names.
_PRESENT_NAMES = {"common_colours": "common_colors"}


def make_vision(config: VisionConfig) -> AnyVision:
    """Make a V with random weights, which are drawn from torch's global generator."""
    return _KINDS[type(config)](config)  # type: ignore[arg-type]


def vision_metadata(vision: Vision) -> dict[str, Any]:
    """Return what `restore_vision` needs in addition to the weights, as JSON values."""
    return {"kind": vision.kind, "config": asdict(vision.config)}


def restore_vision(
    checkpoint: Checkpoint, path: Path, device: str | torch.device = "cpu"
) -> AnyVision:
    """Restore V from the `vision` part of a checkpoint.

    Raises: UserError if the checkpoint is not valid; the message names `path`.
    """
    hint = "train V again"
    with reading(path, hint):
        metadata = checkpoint.metadata["vision"]
        kinds = {vision.kind: config for config, vision in _KINDS.items()}
        settings = {
            _PRESENT_NAMES.get(name, name): _as_tuples(value)
            for name, value in metadata["config"].items()
        }
        config = kinds[metadata["kind"]](**settings)
    vision = restore_module(lambda: make_vision(config), checkpoint.part("vision"), path, hint)
    return vision.eval().to(device)


def load_vision(run: Run, device: str | torch.device = "cpu", options: str = "") -> AnyVision:
    """Load the V of a run.

    Raises: UserError if the run has no V; the message recommends `wm train-vision` with `options`.
    """
    _ = run.settings  # refuses a folder that holds no run
    path = run.weights("vision")
    hint = f'run "wm train-vision --run {run}{options}" first'
    return restore_vision(load_checkpoint(path, hint=hint), path, device)


def _as_tuples(value: Any) -> Any:
    """Convert lists from JSON back to tuples."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
