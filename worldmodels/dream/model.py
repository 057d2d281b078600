"""M as thousands of dreams at once.

The core is tensors on one device: a step is a function of its arguments and of a generator, and
nothing is kept between steps. A dream begins at a real encoded moment, with M's state run up on
the episode before it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.errors import UserError
from worldmodels.memory import EnsemblePrediction, LSTMState, Memory, MemoryEnsemble, Prediction
from worldmodels.training.device import device_of
from worldmodels.vision import Vision


class DreamState(NamedTuple):
    """Where B dreams stand.

    That is the present latent, M's state before its agent step, and the probability that the
    episode still goes on.
    """

    latent: Tensor
    memory: LSTMState
    weight: Float[Tensor, "batch"]

    def rows(self, index: Tensor) -> "DreamState":
        """The chosen dreams; an index may come several times."""
        return DreamState(self.latent[index], self.memory.rows(index), self.weight[index])

    def to(self, device: torch.device | str) -> "DreamState":
        """The same on another device."""
        memory = LSTMState(self.memory.h.to(device), self.memory.c.to(device))
        return DreamState(self.latent.to(device), memory, self.weight.to(device))


@dataclass(frozen=True)
class Support:
    """What V and M have seen, and so may be believed about.

    Dreamed latents are held within `low` and `high`: beyond what V ever encoded, neither V nor M
    knows what a latent means. A dream has left the region, and ends, where a latent would lie
    further outside than `MARGIN` of the range and than `NOISE` times V's own noise, or where the
    members of an M that votes disagree more than they do on all but one in a thousand real
    agent steps. Codes cannot leave their range, so that a single M over codes never leaves the
    region.

    What comes after an end pays nothing, so where the game would have gone on to pay, a dream that
    leaves is too low, and where it would have cost, too high; `wm dream-check` measures how much,
    beside dreams that may go anywhere.

    Attributes:
        low, high: of each latent over real frames; None for codes.
        most_disagreement: see `EnsemblePrediction.disagreement`; None for a single M.
        noise: standard deviation of V's posterior, of each latent; M dreams it along. None counts
            as none.
    """

    MARGIN: ClassVar[float] = 0.5
    # One latent that V leaves unused has hardly a range and a noise of 1: at 0 it ended every
    # dream within two agent steps.
    NOISE: ClassVar[float] = 5.0
    QUANTILE: ClassVar[float] = 0.999

    low: Float[Tensor, "latent"] | None = None
    high: Float[Tensor, "latent"] | None = None
    most_disagreement: float | None = None
    noise: Float[Tensor, "latent"] | None = None

    @classmethod
    @torch.no_grad()
    def fit(cls, vision: Vision, memory: Memory, sequences: SequenceBatch) -> "Support":
        """The region that real episodes on the CPU span; it is on the CPU too."""
        latents = vision.mode(sequences.posteriors)
        low = high = most = noise = None
        if not vision.discrete:
            real = latents[:, :-1][sequences.mask]
            low, high = real.amin(0), real.amax(0)
            _, logvar = sequences.posteriors[:, :-1][sequences.mask].chunk(2, dim=-1)
            noise = logvar.exp().mean(0).sqrt()
        if isinstance(memory, MemoryEnsemble):
            device = device_of(memory)
            before, actions = latents[:, :-1].to(device), sequences.actions.to(device)
            hidden, _ = memory.sequence(memory.initial(len(sequences)), before, actions)
            real, now = hidden[sequences.mask], before[sequences.mask]
            parts = [
                memory.predict(h, z).disagreement()
                for h, z in zip(real.split(1024), now.split(1024), strict=True)
            ]
            most = float(torch.cat(parts).quantile(cls.QUANTILE))
        return cls(low, high, most, noise)

    def clamp(
        self, latent: Tensor, prediction: Prediction
    ) -> tuple[Tensor, Bool[Tensor, "batch"] | None]:
        """Dreamed latents within range, and which dreams have left; None where none can."""
        out_of_support = None
        if self.low is not None and self.high is not None:
            clamped = latent.clamp(self.low, self.high)
            room = self.MARGIN * (self.high - self.low)
            if self.noise is not None:
                room = torch.maximum(room, self.NOISE * self.noise)
            out_of_support = ((latent - clamped).abs() > room).any(-1)
            latent = clamped
        if self.most_disagreement is not None and isinstance(prediction, EnsemblePrediction):
            disagrees = prediction.disagreement() > self.most_disagreement
            out_of_support = disagrees if out_of_support is None else out_of_support | disagrees
        return latent, out_of_support

    def to(self, device: torch.device | str) -> "Support":
        """The same on another device."""
        low, high, noise = (
            None if part is None else part.to(device) for part in (self.low, self.high, self.noise)
        )
        return Support(low, high, self.most_disagreement, noise)


def check_temperature(temperature: float) -> None:
    """Raise UserError for what is no temperature."""
    if not 0 <= temperature < math.inf:
        raise UserError(f"expected a temperature of 0 or more, got {temperature}")


class DreamModel:
    """V and M together as an environment of the agent's own making.

    Example:
        vision, memory = worldmodels.load_world_model("runs/demo")
        dream = worldmodels.DreamModel(vision, memory, temperature=1.15)
        latent = vision.mode(vision.encode(frames))  # uint8 (B, 64, 64, 3)
        state = worldmodels.DreamState(latent, memory.initial(len(frames)), torch.ones(len(frames)))
        state, reward = dream.step(state, actions)  # actions (B, A), encoded

    Args:
        temperature: uncertainty of the dream; above 1 it is harder to exploit
            (arXiv 1803.10122, 4.2).
        region: where dreams may go; None lets them go anywhere.
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
        """Where V and M are, and where dreams have to be."""
        return device_of(self.memory)

    @property
    def num_features(self) -> int:
        """Length of `features`."""
        return self.vision.num_features + self.memory.config.num_hidden

    def features(self, state: DreamState) -> Float[Tensor, "batch feature"]:
        """[z, h], what C sees."""
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
        """One agent step in every dream: the next state, and the reward expected now.

        The reward is in the env's units and not weighted by `weight`. `num_candidates`: the batch
        is so many blocks of dreams that meet the same noise, row by row.
        """
        memory, prediction = self.memory.step(state.memory, state.latent, action)
        latent = prediction.sample(self.temperature, generator, num_candidates)
        outcome = prediction.outcome
        weight = state.weight * (1.0 - outcome.end_probability)
        if self.support is not None:
            latent, out_of_support = self.support.clamp(latent, prediction)
            if out_of_support is not None:
                weight = weight.masked_fill(out_of_support, 0.0)
        return DreamState(latent, memory, weight), outcome.reward


@torch.no_grad()
def real_states(vision: Vision, memory: Memory, sequences: SequenceBatch) -> DreamState:
    """Every agent step of the sequences as a moment a dream can begin at, (moments, ...).

    M's state is the one before that agent step, run up on the episode's real past. Sequences and
    moments are on the CPU.
    """
    device = device_of(memory)
    latents = vision.mode(sequences.posteriors[:, :-1])
    before, actions = latents.to(device), sequences.actions.to(device)
    hs, cs = [], []
    state = memory.initial(len(sequences))
    for step in range(sequences.mask.shape[1]):
        hs.append(state.h)
        cs.append(state.c)
        state = memory.advance(state, before[:, step], actions[:, step])
    real = sequences.mask
    past = LSTMState(torch.stack(hs, 1).cpu()[real], torch.stack(cs, 1).cpu()[real])
    return DreamState(latents[real], past, torch.ones(len(past.h)))


def near_reward(sequences: SequenceBatch, within: int) -> Bool[Tensor, "moment"]:
    """Which of `real_states` have a reward above the mean at most `within` agent steps away.

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
    horizon: int,
    generator: torch.Generator,
    num_candidates: int = 1,
) -> Float[Tensor, "batch"]:
    """Sum of the rewards expected over `horizon`, of each dream from its start.

    `num_candidates`: see `DreamModel.step`.
    """
    state, total = starts, torch.zeros_like(starts.weight)
    for _ in range(horizon):
        weight = state.weight
        state, reward = dream.step(state, act(dream.features(state)), generator, num_candidates)
        total = total + weight * reward
    return total
