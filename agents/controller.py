"""The controller C; a population of controllers is evaluated as one batched tensor product."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from envs.actions import ActionMap


@dataclass(frozen=True)
class ControllerConfig:
    """Sizes of a controller: linear, or with one layer of `hidden` tanh units.

    Source: arXiv 1803.10122, 2.3: a = W [z, h] + b, so no hidden units. Differs: hidden units are
    optional, for search by gradients, which can train more parameters.
    """

    num_features: int
    num_outputs: int
    hidden: int = 0

    def __post_init__(self) -> None:
        if self.num_features < 1 or self.num_outputs < 1 or self.hidden < 0:
            raise ValueError(
                "expected num_features and num_outputs of 1 or more and hidden of 0 or more, "
                f"got {self}"
            )

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of each layer."""
        hidden = (self.hidden,) if self.hidden else ()
        return tuple(itertools.pairwise((self.num_features, *hidden, self.num_outputs)))

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases; 867 for the paper's 288 features and 3 outputs."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers)

    @property
    def num_last_parameters(self) -> int:
        """Number of weights and biases of the last layer, which are the last parameters."""
        inputs, outputs = self.layers[-1]
        return (inputs + 1) * outputs


def control(
    config: ControllerConfig,
    parameters: Float[Tensor, "candidate parameter"],
    features: Float[Tensor, "candidate batch feature"],
) -> Float[Tensor, "candidate batch output"]:
    """Return raw outputs of every candidate for its own batch of features; one agent is P = 1.

    A layer's parameters are its weights, (inputs, outputs) row by row, then its biases. The action
    map applies tanh to the outputs.

    Raises ValueError where the parameters' or features' sizes are not the config's.
    """
    if parameters.shape[-1] != config.num_parameters:
        raise ValueError(
            f"expected parameters of shape (P, {config.num_parameters}) for {config}, "
            f"got {tuple(parameters.shape)}"
        )
    if features.ndim != 3 or features.shape[-1] != config.num_features:
        raise ValueError(
            f"expected features of shape (P, B, {config.num_features}) for {config}, "
            f"got {tuple(features.shape)}"
        )
    sizes = [size for inputs, outputs in config.layers for size in (inputs * outputs, outputs)]
    parts = iter(parameters.split(sizes, dim=1))
    activation = features
    for layer, shape in enumerate(config.layers):
        if layer > 0:
            activation = torch.tanh(activation)
        weight = next(parts).unflatten(1, shape)
        activation = torch.baddbmm(next(parts).unsqueeze(1), activation, weight)
    return activation


def apply_action_map(
    action_map: ActionMap, outputs: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch action"]:
    """Return encoded actions, the same numbers as `action_map(outputs)` in NumPy.

    A continuous map is differentiable. A discrete map is not, because it returns the one-hot vector
    of the largest output.

    Raises ValueError where the outputs' last axis is not the map's `num_outputs`.
    """
    if outputs.shape[-1] != action_map.num_outputs:
        raise ValueError(
            f"expected outputs of shape (..., {action_map.num_outputs}), got {tuple(outputs.shape)}"
        )
    if action_map.discrete:
        one_hot = torch.nn.functional.one_hot(outputs.argmax(dim=-1), action_map.size)
        return one_hot.to(outputs.dtype)
    source, scale, offset, low, high = _as_tensors(action_map, outputs.device, outputs.dtype)
    picked = torch.tanh(outputs).index_select(-1, source)
    actions = scale * picked + offset
    if action_map.integer:  # straight-through: rounding has no gradient of its own
        actions = actions + (torch.round(actions) - actions).detach()
    return torch.clamp(actions, low, high)


def choose_actions(
    config: ControllerConfig,
    action_map: ActionMap,
    parameters: Float[Tensor, "candidate parameter"],
    features: Float[Tensor, "batch feature"],
) -> Float[Tensor, "batch action"]:
    """Return encoded actions of every candidate for its block of the batch, all of equal length.

    Args:
        features: z followed by h; a controller with fewer features uses only the first ones.
    """
    seen = features[:, : config.num_features].unflatten(0, (len(parameters), -1))
    return apply_action_map(action_map, control(config, parameters, seen)).flatten(0, 1)


@functools.lru_cache(maxsize=32)  # a dream calls this at every step, and each copy to a GPU blocks
def _as_tensors(
    action_map: ActionMap, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    numbers = (action_map.scale, action_map.offset, action_map.low, action_map.high)
    # A tensor made in inference mode could not be used under autograd later.
    with torch.inference_mode(False):
        scale, offset, low, high = torch.tensor(numbers, device=device, dtype=dtype)
        return torch.tensor(action_map.source, device=device), scale, offset, low, high
