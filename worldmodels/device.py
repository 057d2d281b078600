"""What this machine offers: devices to train on, and cores."""

import os

import torch
from torch import nn

from worldmodels.errors import UserError


def choose_device(name: str) -> str:
    """The device to train on: cpu, cuda or mps; auto takes a GPU where there is one.

    Raises: UserError for a device this machine lacks.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if name == "auto":
        return available[0]
    if name not in available:
        raise UserError(f'expected a device among auto, {", ".join(available)}, got "{name}"')
    return name


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def num_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
