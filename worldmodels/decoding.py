"""Latents as the frames they stand for."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldmodels.device import device_of
from worldmodels.vision import Vision

DECODE_BATCH = 256


@torch.no_grad()
def decode_frames(vision: Vision, latents: Tensor) -> UInt8[np.ndarray, "frames 64 64 3"]:
    """The frames that latents (n, ...) on the CPU stand for, drawn in parts on V's device."""
    device = device_of(vision)
    parts = [vision.decode(part.to(device)).cpu() for part in latents.split(DECODE_BATCH)]
    return torch.cat(parts).numpy()
