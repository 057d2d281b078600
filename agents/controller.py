"""The controller C; one batched tensor product computes the outputs of many controllers."""

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
    """Sizes of a controller, which is linear or has one layer of `hidden` tanh units.

    Source: arXiv 1803.10122, section 2.3: a = W [z, h] + b, without hidden units. Differs: a
    controller can have hidden units, which are meant for the search by gradients. This search can
    train more parameters than CMA-ES can.
    """

    num_features: int
    num_outputs: int
    hidden: int = 0

    def __post_init__(self) -> None:
        if self.num_features < 1 or self.num_outputs < 1 or self.hidden < 0:
            raise ValueError(
                "expected num_features and num_outputs of at least 1, and hidden of at least 0, "
                f"got {self}"
            )

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """For each layer, the number of inputs and the number of outputs."""
        hidden = (self.hidden,) if self.hidden else ()
        return tuple(itertools.pairwise((self.num_features, *hidden, self.num_outputs)))

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases, which is 867 for the paper's 288 features and 3 outputs."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers)

    @property
    def num_last_parameters(self) -> int:
        """Number of weights and biases of the last layer.

        A candidate's vector of parameters ends with the parameters of the last layer.
        """
        inputs, outputs = self.layers[-1]
        return (inputs + 1) * outputs


def control(
    config: ControllerConfig,
    parameters: Float[Tensor, "candidate parameter"],
    features: Float[Tensor, "candidate batch feature"],
) -> Float[Tensor, "candidate batch output"]:
    """Return the raw outputs of each candidate for the candidate's own batch of features.

    The parameters of P candidates have the shape (P, num_parameters). The features of P candidates
    have the shape (P, B, num_features), where B is the length of each candidate's batch. For a
    single agent, P is 1. The parameters of a layer begin with the weights, which are a matrix
    (inputs, outputs) stored row by row. The biases of the layer come after the weights. This
    function does not apply tanh to the outputs, because the action map applies tanh.

    Raises ValueError if the size of the parameters or of the features does not match `config`.
    """
    if parameters.shape[-1] != config.num_parameters:
        raise ValueError(
            f"expected parameters of shape (P, {config.num_parameters}) for P candidates with "
            f"{config}, got {tuple(parameters.shape)}"
        )
    if features.ndim != 3 or features.shape[-1] != config.num_features:
        raise ValueError(
            f"expected features of shape (P, B, {config.num_features}) for P candidates, "
            f"batches of length B and {config}, got {tuple(features.shape)}"
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
    """Compute, in PyTorch, the encoded actions that `action_map(outputs)` computes in NumPy.

    A continuous action map is differentiable. A discrete action map is not differentiable, because
    its result is the one-hot vector of the largest output.

    Raises ValueError if the size of the outputs' last axis is not `action_map.num_outputs`.
    """
    if outputs.shape[-1] != action_map.num_outputs:
        raise ValueError(
            f"expected outputs of shape (..., {action_map.num_outputs}), got {tuple(outputs.shape)}"
        )
    if action_map.discrete:
        one_hot = torch.nn.functional.one_hot(outputs.argmax(dim=-1), action_map.size)
        return one_hot.to(outputs.dtype)
    source, scale, offset, low, high = _as_tensors(action_map, outputs.device, outputs.dtype)
    actions = scale * torch.tanh(outputs).index_select(-1, source) + offset
    if action_map.integer:  # straight-through: rounding has no gradient of its own
        actions = actions + (torch.round(actions) - actions).detach()
    return torch.clamp(actions, low, high)


def choose_actions(
    config: ControllerConfig,
    action_map: ActionMap,
    parameters: Float[Tensor, "candidate parameter"],
    features: Float[Tensor, "batch feature"],
) -> Float[Tensor, "batch action"]:
    """Return the encoded actions of every candidate for the candidate's own block of the batch.

    The batch consists of one block per candidate, and all blocks have the same length.

    Args:
        features: the latent features z, followed by M's hidden state h. A controller uses only the
            first `config.num_features` of these numbers.
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
