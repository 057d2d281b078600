"""V: frames to a small latent and back."""

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

# The class of V that each class of config makes; "kind" is what a checkpoint calls it.
_KINDS: dict[type[VisionConfig], type[AnyVision]] = {
    VAEConfig: VAE,
    VQVAEConfig: VQVAE,
    CategoricalVAEConfig: CategoricalVAE,
}

# Settings in files of earlier versions, by their present names.
_PRESENT_NAMES = {"common_colours": "common_colors"}


def make_vision(config: VisionConfig) -> AnyVision:
    """A new V, its weights drawn from torch's global generator."""
    return _KINDS[type(config)](config)  # type: ignore[arg-type]


def vision_metadata(vision: Vision) -> dict[str, Any]:
    """What `restore_vision` needs beside the weights, as JSON."""
    return {"kind": vision.kind, "config": asdict(vision.config)}


def restore_vision(
    checkpoint: Checkpoint, path: Path, device: str | torch.device = "cpu"
) -> AnyVision:
    """V from the `vision` part of a checkpoint; raises UserError naming `path`."""
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
    """The V of a run; raises UserError, with the options that train one, where there is none."""
    _ = run.settings  # a folder that holds no run is refused first
    path = run.weights("vision")
    hint = f'run "wm train-vision --run {run}{options}" first'
    return restore_vision(load_checkpoint(path, hint=hint), path, device)


def _as_tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
