"""An environment that consists of V and M, and runs thousands of dreams as one batch.

All tensors are on one device. The environment keeps no state between steps: `DreamModel.step`
receives the state of the dreams and returns their next state. A dream begins at a state of a real
episode; see `worldmodels.dream.starts`.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodels.dream.support import Support
from worldmodels.errors import UserError
from worldmodels.memory import LSTMState, Memory
from worldmodels.training.device import device_of
from worldmodels.vision import Vision


class DreamState(NamedTuple):
    """The state of B dreams before an agent step.

    `latent` is the present latent, `memory` is M's state, and `weight` is the probability that
    the dream has not ended yet.
    """

    latent: Tensor
    memory: LSTMState
    weight: Float[Tensor, "batch"]

    def rows(self, index: Tensor) -> "DreamState":
        """Return the states of the dreams at `index`; a dream may occur several times."""
        return DreamState(self.latent[index], self.memory.rows(index), self.weight[index])

    def put(self, index: Int[Tensor, "chosen"], new: "DreamState") -> "DreamState":
        """Return a copy in which `new` replaces the states of the dreams at `index`."""

        def replaced(old: Tensor, part: Tensor) -> Tensor:
            return old.index_copy(0, index, part)

        memory = LSTMState(*map(replaced, self.memory, new.memory))
        latent, weight = replaced(self.latent, new.latent), replaced(self.weight, new.weight)
        return DreamState(latent, memory, weight)

    def to(self, device: torch.device | str) -> "DreamState":
        """Return the same state on another device."""
        memory = LSTMState(self.memory.h.to(device), self.memory.c.to(device))
        return DreamState(self.latent.to(device), memory, self.weight.to(device))


def check_temperature(temperature: float) -> None:
    """Raise UserError unless the temperature is 0 or more, and finite."""
    if not 0 <= temperature < math.inf:
        raise UserError(f"expected a finite temperature of at least 0, got {temperature}")


class DreamModel:
    """An environment that consists of V and M, and keeps no state between steps.

    Example::

        vision, memory = worldmodels.load_world_model("runs/demo")
        dream = worldmodels.DreamModel(vision, memory, temperature=1.15)
        latent = vision.mode(vision.encode(frames))  # uint8 (B, 64, 64, 3)
        state = worldmodels.DreamState(latent, memory.initial(len(frames)), torch.ones(len(frames)))
        state, reward = dream.step(state, actions)  # actions (B, A), encoded

    Args:
        vision: V.
        memory: M, on the device of V.
        temperature: scales the uncertainty of the dream. At a temperature above 1, errors of M are
            harder for C to exploit (arXiv 1803.10122, section 4.2).
        support: a dream that leaves the support ends. If `support` is None, dreams are
            unconstrained.
    """

    def __init__(
        self,
        vision: Vision,
        memory: Memory,
        temperature: float = 1.0,
        support: Support | None = None,
    ) -> None:
        check_temperature(temperature)
        self.vision = vision.eval()
        self.memory = memory.eval()
        self.temperature = temperature
        self.support = support

    @property
    def device(self) -> torch.device:
        """The device of V and M; dreams must be on the same device."""
        return device_of(self.memory)

    @property
    def num_features(self) -> int:
        """The length of [z, h]."""
        return self.vision.num_features + self.memory.config.num_hidden

    def features(self, state: DreamState) -> Float[Tensor, "batch feature"]:
        """Return [z, h], which is the input of C."""
        return torch.cat(
            [self.vision.features(state.latent), self.memory.features(state.memory)], dim=-1
        )

    def step(
        self,
        state: DreamState,
        action: Float[Tensor, "batch action"],
        generator: torch.Generator | None = None,
        num_candidates: int = 1,
    ) -> tuple[DreamState, Float[Tensor, "batch"]]:
        """Take one agent step in every dream; return the next state and the expected reward.

        The reward is in the units of the real env and is not multiplied by `weight`.

        Args:
            action: encoded actions.
            generator: the generator of the noise; None stands for torch's global generator.
            num_candidates: number of blocks of equal size in the batch, one block per candidate.
                Row i of every block gets the same noise (common random numbers).
        """
        memory, prediction = self.memory.step(state.memory, state.latent, action)
        latent = prediction.sample(self.temperature, generator, num_candidates)
        weight = state.weight * (1.0 - prediction.outcome.end_probability)
        if self.support is not None:
            latent, out_of_support = self.support.clamp(latent, prediction)
            weight = weight.masked_fill(out_of_support, 0.0)
        return DreamState(latent, memory, weight), prediction.outcome.reward
