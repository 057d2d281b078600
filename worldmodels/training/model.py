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
    batch into parts, each with a weight; the weights add up to 1. `independent_parts` are modules
    that do not depend on each other, so that their gradients are clipped separately.
    """

    training: bool

    def loss(self, batch: Any, generator: torch.Generator, /) -> LossAndMetrics:
        """The scalar loss of a batch, and scalar metrics by name."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters."""

    def state_dict(self) -> dict[str, Any]:
        """The parameters and buffers, by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> object:
        """Load the parameters and buffers in `state_dict`, which maps names to tensors."""

    def train(self: Own, mode: bool = True, /) -> Own:
        """Switch to training mode."""

    def eval(self: Own) -> Own:
        """Switch to evaluation mode."""

    def to(self: Own, device: torch.device | str, /) -> Own:
        """Move the model to a device."""
