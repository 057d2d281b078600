"""Open-loop dreams, which follow the actions of real episodes and are compared with real frames."""

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
    """Squared errors at each agent step of a dream, summed over a frame with values in 0..1.

    Attributes:
        predicted: error of the mean frame of several dreams that begin at the same state.
        persistence: error of the last-frame baseline, which repeats V's reconstruction of the frame
            at which the dream began.
        reconstruction: error of V's reconstruction of the real frame, which is a rough lower bound
            for the error of dreams.
    """

    predicted: list[float]
    persistence: list[float]
    reconstruction: list[float]

    @property
    def steps_below_persistence(self) -> int:
        """Number of agent steps before the first at which dreams do not beat the baseline."""
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
        horizon: number of agent steps of each dream.
        num_starts: number of start states. The start states are evenly spread over the agent steps
            after which the episode has at least `horizon` agent steps. M's state at a start is
            computed from the earlier agent steps of the real episode.
        num_samples: number of dreams per start state. The mean of their frames is compared with the
            real frame.

    Raises: ValueError if no episode is longer than `horizon` agent steps.
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
