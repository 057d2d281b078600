"""Encode many frames, or decode many latents, batch by batch."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldmodels.training.device import device_of
from worldmodels.vision import Vision

ENCODE_BATCH = 256
DECODE_BATCH = 256


@torch.no_grad()
def encode_frames(vision: Vision, frames: UInt8[np.ndarray, "frames 64 64 3"]) -> Tensor:
    """Encode frames, and return posteriors on the CPU: float32 (n, 2 Z) or int64 codes (n, N)."""
    device = device_of(vision)
    parts = [
        vision.encode(part.to(device)).cpu()
        for part in torch.from_numpy(frames).split(ENCODE_BATCH)
    ]
    return torch.cat(parts)


@torch.no_grad()
def decode_frames(vision: Vision, latents: Tensor) -> UInt8[np.ndarray, "frames 64 64 3"]:
    """Decode latents (n, ...) to frames on the CPU; V decodes on its own device."""
    device = device_of(vision)
    parts = [vision.decode(part.to(device)).cpu() for part in latents.split(DECODE_BATCH)]
    return torch.cat(parts).numpy()
