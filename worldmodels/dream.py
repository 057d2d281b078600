"""M as thousands of dreams at once.

The core is tensors on one device: a step is a function of its arguments and of a generator, and
nothing is kept between steps. A dream begins at a real encoded moment, with M's state run up on
the episode before it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from worldmodels.data.batches import SequenceBatch
from worldmodels.memory import LSTMState, Memory
from worldmodels.vision import Vision


class DreamState(NamedTuple):
    """Where B dreams stand.

    That is the present latent, M's state before its decision, and the probability that the
    episode still goes on.
    """

    latent: Tensor
    memory: LSTMState
    alive: Float[Tensor, "batch"]

    def rows(self, index: Tensor) -> "DreamState":
        """The chosen dreams; an index may come several times."""
        return DreamState(self.latent[index], self.memory.rows(index), self.alive[index])

    def to(self, device: torch.device | str) -> "DreamState":
        """The same on another device."""
        memory = LSTMState(self.memory.h.to(device), self.memory.c.to(device))
        return DreamState(self.latent.to(device), memory, self.alive.to(device))


class DreamModel:
    """V and M together as an environment of the agent's own making.

    Args:
        temperature: uncertainty of the dream; above 1 it is harder to exploit
            (arXiv 1803.10122, 4.2).
    """

    def __init__(self, vision: Vision, memory: Memory, temperature: float = 1.0) -> None:
        self.vision = vision.eval()
        self.memory = memory.eval()
        self.temperature = temperature
        # Beyond what V ever encoded, neither V nor M knows what a latent means.
        self.latent_range: tuple[Tensor, Tensor] | None = None

    def keep_within(self, latents: Shaped[Tensor, "moment latent"]) -> None:
        """Hold dreamed latents within the range of these real ones; codes cannot leave theirs."""
        if not self.vision.discrete:
            self.latent_range = (latents.amin(0), latents.amax(0))

    def features(self, state: DreamState) -> Float[Tensor, "batch feature"]:
        """[z, h], what C sees."""
        return torch.cat([self.vision.features(state.latent), state.memory.h], dim=-1)

    def step(
        self,
        state: DreamState,
        action: Float[Tensor, "batch action"],
        generator: torch.Generator | None = None,
        copies: int = 1,
    ) -> tuple[DreamState, Float[Tensor, "batch"]]:
        """One decision in every dream: the next state, and the reward expected now.

        The reward is in the env's units and not weighted by `alive`. `copies`: the batch is so
        many blocks of dreams that meet the same luck, row by row.
        """
        memory, prediction = self.memory.step(state.memory, state.latent, action)
        latent = prediction.sample(self.temperature, generator, copies)
        if self.latent_range is not None:
            latent = latent.clamp(*self.latent_range)
        alive = state.alive * (1.0 - prediction.outcome.end_probability)
        return DreamState(latent, memory, alive), prediction.outcome.reward


@torch.no_grad()
def real_moments(vision: Vision, memory: Memory, sequences: SequenceBatch) -> DreamState:
    """Every decision of the sequences as a moment a dream can begin at, (moments, ...).

    M's state is the one before that decision, run up on the episode's real past.
    """
    latents = vision.mode(sequences.posteriors[:, :-1])
    hs, cs = [], []
    state = memory.initial(len(sequences))
    for step in range(sequences.mask.shape[1]):
        hs.append(state.h)
        cs.append(state.c)
        state = memory.advance(state, latents[:, step], sequences.actions[:, step])
    real = sequences.mask
    past = LSTMState(torch.stack(hs, 1)[real], torch.stack(cs, 1)[real])
    return DreamState(latents[real], past, torch.ones(len(past.h), device=real.device))


def near_reward(sequences: SequenceBatch, within: int) -> Bool[Tensor, "moment"]:
    """Which of `real_moments` have a reward above the mean at most `within` decisions away.

    Far from any reward all controllers fare alike: a car deep in the grass tells none apart.
    """
    good = (sequences.rewards > sequences.rewards[sequences.mask].mean()) & sequences.mask
    reach = torch.nn.functional.max_pool1d(
        good.float()[:, None], 2 * within + 1, stride=1, padding=within
    )
    return (reach[:, 0] > 0)[sequences.mask]


@torch.no_grad()
def dreamed_returns(
    dream: DreamModel,
    starts: DreamState,
    act: Callable[[Float[Tensor, "batch feature"]], Float[Tensor, "batch action"]],
    num_decisions: int,
    generator: torch.Generator,
    copies: int = 1,
) -> Float[Tensor, "batch"]:
    """Sum of the rewards expected over `num_decisions`, of each dream from its start.

    `copies`: see `DreamModel.step`.
    """
    state, total = starts, torch.zeros_like(starts.alive)
    for _ in range(num_decisions):
        alive = state.alive
        state, reward = dream.step(state, act(dream.features(state)), generator, copies)
        total = total + alive * reward
    return total
