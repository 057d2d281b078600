"""Pictures that show dreams next to the real frames."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from worldmodels.data.sequences import PART_STEPS, SequenceBatch, Sequences
from worldmodels.dream.model import DreamModel
from worldmodels.dream.rollout import replay
from worldmodels.plotting import save_grid
from worldmodels.vision.batched import decode_frames


@torch.no_grad()
def save_dreams(
    path: Path,
    dream: DreamModel,
    episode: SequenceBatch,
    frames: UInt8[np.ndarray, "_ 64 64 3"],
    *,
    start: int,
    agent_steps: tuple[int, ...],
    num_dreams: int = 1,
) -> None:
    """Draw real frames, V's reconstructions of these frames, and dreams under the same actions.

    The latents of the dreams are samples of M's predictions, and not the likeliest latents, because
    the likeliest codes rarely change between agent steps.

    Args:
        episode: a batch of one episode.
        frames: the frame before each agent step, and the frame after the last agent step.
        start: the agent step at which the dreams begin. M's state at the start is computed from the
            earlier agent steps of the real episode.
        agent_steps: the agent steps whose frames are drawn, in ascending order and counted from
            `start`. Agent steps past the end of the episode are left out.
    """
    vision, length = dream.vision, int(episode.mask.sum())
    shown = [step for step in agent_steps if start + step <= length]
    at = torch.zeros(num_dreams, dtype=torch.int64), torch.full((num_dreams,), start)
    latents = replay(dream, episode, *at, max(1, shown[-1]), seed=start)[shown]
    names = ["dream"] if num_dreams == 1 else [f"dream {n}" for n in range(1, num_dreams + 1)]
    places = [start + step for step in shown]
    rows = {
        "real": frames[places],
        "reconstruction": decode_frames(vision, vision.mode(episode.posteriors[0, places])),
        **{name: decode_frames(vision, latents[:, number]) for number, name in enumerate(names)},
    }
    save_grid(path, rows, [f"agent step {step}" for step in shown])


def most_active_episode(episodes: Sequences) -> int:
    """Return the index of the episode with the highest return plus a small bonus for activity.

    The bonus is proportional to the sum of all changes of the actions.
    """
    merits = []
    for part in episodes.parts(PART_STEPS):
        moves = (part.actions[:, 1:] - part.actions[:, :-1]).abs().sum((1, 2))
        merits.append(part.rewards.sum(1) + 1e-3 * moves)
    return int(torch.cat(merits).argmax())
