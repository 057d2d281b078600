"""The device on which a model computes."""

import torch
from torch import nn

from worldmodels.training.model import Model


def device_of(model: nn.Module | Model) -> torch.device:
    """Return the device of a model's parameters."""
    return next(model.parameters()).device
