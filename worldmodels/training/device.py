"""Where a model computes."""

import torch
from torch import nn

from worldmodels.training.model import Model


def device_of(model: nn.Module | Model) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device
