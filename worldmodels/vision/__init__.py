"""V: frames to a small latent and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worldmodels.checkpoint import Checkpoint, load_weights
from worldmodels.vision.vae import VAE, VAEConfig
from worldmodels.vision.vqvae import VQVAE, VQVAEConfig

Vision = VAE | VQVAE
VisionConfig = VAEConfig | VQVAEConfig

__all__ = ["VAE", "VQVAE", "VAEConfig", "VQVAEConfig", "Vision", "VisionConfig"]


def make_vision(config: VisionConfig) -> Vision:
    """A new V, its weights drawn from torch's global generator."""
    return VAE(config) if isinstance(config, VAEConfig) else VQVAE(config)


def vision_metadata(vision: Vision) -> dict[str, Any]:
    """What `restore_vision` needs beside the weights, as JSON."""
    return {"kind": vision.kind, "config": asdict(vision.config)}


def restore_vision(
    checkpoint: Checkpoint, path: Path, device: str | torch.device = "cpu"
) -> Vision:
    """V from the `vision` part of a checkpoint."""
    facts = checkpoint.metadata["vision"]
    config: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in facts["config"].items()
    }
    vision = make_vision(VAEConfig(**config) if facts["kind"] == "vae" else VQVAEConfig(**config))
    load_weights(vision, checkpoint.part("vision"), path)
    return vision.eval().to(device)
