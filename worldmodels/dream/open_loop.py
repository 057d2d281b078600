"""Open-loop dreams: dreams under the actions of real episodes, compared with the real frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.model import DreamModel
from worldmodels.dream.rollout import replay
from worldmodels.dream.starts import spread_starts
from worldmodels.vision import Vision
from worldmodels.vision.batched import decode_frames
from worldmodels.vision.networks import to_unit
from worldmodels.vision.pixel_error import squared_error


@dataclass(frozen=True)
class OpenLoop:
    """Squared error per frame, for pixels within 0..1, at each agent step of the dream.

    Attributes:
        predicted: error of the mean of the decoded frames of several dreams.
        persistence: error of the last-frame baseline, which repeats the decoded frame at which the
            dream began.
        reconstruction: error of V's reconstruction of the real frame; no dream has a smaller error
            than this for long.
    """

    predicted: list[float]
    persistence: list[float]
    reconstruction: list[float]

    @property
    def steps_below_persistence(self) -> int:
        """Number of agent steps before dreams first fail to beat the last-frame baseline."""
        better = [d < f for d, f in zip(self.predicted, self.persistence, strict=True)]
        return better.index(False) if False in better else len(better)


@torch.no_grad()
def open_loop(
    dream: DreamModel,
    episodes: SequenceBatch,
    frames: Sequence[UInt8[np.ndarray, "_ 64 64 3"]],
    *,
    horizon: int,
    num_starts: int = 64,
    num_samples: int = 16,
) -> OpenLoop:
    """Measure the error of dreams under real actions, at each agent step of the dreams.

    Args:
        frames: for each episode, the frame before each agent step and the frame after the last
            agent step.
        num_starts: number of start states, which are evenly spread over the agent steps that leave
            room for a dream. M's state at a start follows from the real past of the episode.
        num_samples: number of dreams per start state, whose mean frame is compared with the real
            frame.

    Raises: ValueError if no episode is longer than the dreams.
    """
    vision = dream.vision
    rows, steps = spread_starts(episodes, horizon, num_starts)
    repeated = torch.arange(len(rows)).repeat_interleave(num_samples)
    first, *futures = replay(dream, episodes, rows[repeated], steps[repeated], horizon)
    still = _decoded(vision, first[::num_samples])
    errors = []
    for at, latents in enumerate(futures, start=1):
        places = zip(rows.tolist(), (steps + at).tolist(), strict=True)
        real = to_unit(torch.from_numpy(np.stack([frames[row][step] for row, step in places])))
        predicted = _decoded(vision, latents).unflatten(0, (-1, num_samples)).mean(1)
        reconstruction = _decoded(vision, vision.mode(episodes.posteriors[rows, steps + at]))
        guesses = (predicted, still, reconstruction)
        errors.append([float(squared_error(guess, real).mean()) for guess in guesses])
    return OpenLoop(*np.transpose(errors).tolist())


def _decoded(vision: Vision, latents: Tensor) -> Tensor:
    return to_unit(torch.from_numpy(decode_frames(vision, latents)))
