"""What a model holds of its inputs while it computes: for the estimate before a stage."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# While a gradient is taken, each layer's output is there about three times: itself, its gradient,
# and a copy that the layer or the one after it works on.
COPIES_IN_TRAINING = 3


@torch.no_grad()
def activation_bytes(model: nn.Module, compute: Callable[[], Any]) -> int:
    """Bytes of the outputs of all of a model's layers, in one call of `compute`.

    The call is made in evaluation mode, so that no running average changes.
    """
    sizes: list[int] = []

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    layers = [module for module in model.modules() if not any(module.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = model.training
    try:
        model.eval()
        compute()
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return sum(sizes)
