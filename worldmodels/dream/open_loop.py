"""Open loop: dreams under the actions of a real episode, beside what really happened."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamModel, DreamState, real_states
from worldmodels.memory import Memory
from worldmodels.training.fit import step_generator
from worldmodels.vision import Vision
from worldmodels.vision.batched import decode_frames
from worldmodels.vision.networks import to_unit
from worldmodels.vision.objective import squared_error


@dataclass(frozen=True)
class OpenLoop:
    """Squared error a frame, full scale 1, by agent steps since the dream began.

    Attributes:
        dreamed: of the mean of several decoded dreams.
        persistence: of the decoded frame the dream began at, "nothing moves".
        seen: of V's own reconstruction of the real frame, which no dream can beat for long.
    """

    predicted: list[float]
    persistence: list[float]
    reconstruction: list[float]

    @property
    def steps_below_persistence(self) -> int:
        """How many agent steps, from the first one on, the dream beats the last-frame baseline."""
        better = [d < f for d, f in zip(self.predicted, self.persistence, strict=True)]
        return better.index(False) if False in better else len(better)


# Long list of parameters: models, episodes, and the four sizes of the measurement.
@torch.no_grad()
def open_loop(
    vision: Vision,
    memory: Memory,
    episodes: SequenceBatch,
    frames: Sequence[UInt8[np.ndarray, "_ 64 64 3"]],
    *,
    horizon: int,
    num_starts: int = 64,
    num_samples: int = 16,
    temperature: float = 1.0,
) -> OpenLoop:
    """How soon dreams under the actions of real episodes leave what really happened.

    Args:
        frames: of each episode, one per agent step and the last one.
        num_starts: moments dreamed on from, evenly spread over those that leave room; M has seen
            the episode up to there.
        num_samples: dreams from each moment; the mean of their frames is what is compared.

    Raises: ValueError where no episode is as long as the dreams.
    """
    rows, steps = spread_starts(episodes, horizon, num_starts)
    starts = states_at(vision, memory, episodes, rows, steps)
    repeated = torch.arange(len(rows)).repeat_interleave(num_samples)
    futures = roll_out(
        DreamModel(vision, memory, temperature),
        starts.rows(repeated),
        actions_after(episodes, rows, steps, horizon)[repeated],
    )
    still = _decoded(vision, starts.latent)
    curves = OpenLoop([], [], [])
    for agent_step, latents in enumerate(futures, start=1):
        at = [(int(row), int(step) + agent_step) for row, step in zip(rows, steps, strict=True)]
        target = to_unit(torch.from_numpy(np.stack([frames[r][t] for r, t in at])))
        posteriors = torch.stack([episodes.posteriors[r, t] for r, t in at])
        mean = _decoded(vision, latents).unflatten(0, (-1, num_samples)).mean(1)
        seen_frames = _decoded(vision, vision.mode(posteriors))
        curves.predicted.append(_error(mean, target))
        curves.persistence.append(_error(still, target))
        curves.reconstruction.append(_error(seen_frames, target))
    return curves


def spread_starts(
    episodes: SequenceBatch, horizon: int, count: int
) -> tuple[Int[Tensor, "start"], Int[Tensor, "start"]]:
    """Episode and agent step of moments evenly spread over those that leave room for a dream.

    None is an episode's first, of which M has seen nothing.

    Raises: ValueError where no episode is long enough.
    """
    rows, steps = episodes.mask.nonzero(as_tuple=True)
    lengths = episodes.mask.sum(1)
    room = ((steps + horizon <= lengths[rows]) & (steps > 0)).nonzero()[:, 0]
    if len(room) == 0:
        raise ValueError(
            f"expected an episode of more than {horizon} agent steps, the longest has "
            f"{int(lengths.max())}"
        )
    chosen = room[torch.linspace(0, len(room) - 1, min(count, len(room))).long()]
    return rows[chosen], steps[chosen]


def states_at(
    vision: Vision,
    memory: Memory,
    episodes: SequenceBatch,
    rows: Int[Tensor, "start"],
    steps: Int[Tensor, "start"],
) -> DreamState:
    """Dreams at these agent steps of these episodes, M's state run up on what came before."""
    lengths = episodes.mask.sum(1)
    places = (lengths.cumsum(0) - lengths)[rows] + steps
    return real_states(vision, memory, episodes).rows(places)


def actions_after(
    episodes: SequenceBatch,
    rows: Int[Tensor, "start"],
    steps: Int[Tensor, "start"],
    horizon: int,
) -> Tensor:
    """Actions an episode really took from each start on, (starts, horizon, A)."""
    after = steps[:, None] + torch.arange(horizon)
    return episodes.actions[rows[:, None], after]


@torch.no_grad()
def roll_out(dream: DreamModel, starts: DreamState, actions: Tensor, seed: int = 0) -> Tensor:
    """Latents dreamed under given actions, (agent steps, batch, ...).

    Starts, actions and latents are on the CPU; the dream takes them to its own device.

    Args:
        actions: (batch, agent steps, A).
    """
    generator = step_generator(seed, 0, dream.device)
    state, actions, latents = starts.to(dream.device), actions.to(dream.device), []
    for agent_step in range(actions.shape[1]):
        state, _ = dream.step(state, actions[:, agent_step], generator)
        latents.append(state.latent)
    return torch.stack(latents).cpu()


def _decoded(vision: Vision, latents: Tensor) -> Tensor:
    return to_unit(torch.from_numpy(decode_frames(vision, latents)))


def _error(guess: Tensor, target: Tensor) -> float:
    return float(squared_error(guess, target).mean())
