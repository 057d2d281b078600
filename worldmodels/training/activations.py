"""Measure the memory of a model's activations, to estimate the memory that a stage needs."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

# During backpropagation, memory holds about three arrays of the size of each layer's output: the
# output, its gradient, and a copy that the layer or the next layer works on.
COPIES_IN_TRAINING = 3

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def activation_bytes(model: Model, compute: Callable[[Model], Any]) -> int:
    """Return the size in bytes of the outputs of all layers in one call of `compute`.

    The call uses a copy of the model on the CPU, because a call may change the model, for example
    initialize a codebook.
    """
    sizes: list[int] = []

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    copied = copy.deepcopy(model).cpu().eval()
    for layer in copied.modules():
        if not any(layer.children()):
            layer.register_forward_hook(count)
    with torch.random.fork_rng(devices=[]):
        compute(copied)
    return sum(sizes)
