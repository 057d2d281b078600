"""The interface of the models that `fit` trains: a torch module with a loss."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

Own = TypeVar("Own")
LossAndMetrics = tuple[Tensor, dict[str, Tensor]]


@runtime_checkable
class Model(Protocol):
    """A torch module with a loss; all methods but `loss` are those of `torch.nn.Module`.

    A model may have two more attributes, `split` and `independent_parts`. `split(batch)` cuts a
    batch into parts, and returns the parts with weights that add up to 1. `independent_parts` is a
    list of modules that do not depend on each other. The gradients of these modules are clipped
    separately.
    """

    training: bool

    def loss(self, batch: Any, generator: torch.Generator, /) -> LossAndMetrics:
        """Return the scalar loss of a batch, and a dict of scalar metrics."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return all parameters."""

    def state_dict(self) -> dict[str, Any]:
        """Return a dict of the parameters and buffers."""

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> object:
        """Load the parameters and buffers in `state_dict`, which maps names to tensors."""

    def train(self: Own, mode: bool = True, /) -> Own:
        """Switch to training mode."""

    def eval(self: Own) -> Own:
        """Switch to evaluation mode."""

    def to(self: Own, device: torch.device | str, /) -> Own:
        """Move the model to a device."""
