"""Pictures of what M dreams, beside what happened."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from worldmodels.data.sequences import PART_STEPS, SequenceBatch, Sequences
from worldmodels.dream.model import DreamModel
from worldmodels.dream.open_loop import actions_after, roll_out, states_at
from worldmodels.memory import Memory
from worldmodels.plotting import save_grid
from worldmodels.vision import Vision
from worldmodels.vision.batched import decode_frames


# Long list of parameters: models, the episode, and the layout of the picture.
@torch.no_grad()
def save_dreams(
    path: Path,
    vision: Vision,
    memory: Memory,
    episode: SequenceBatch,
    frames: UInt8[np.ndarray, "decisions 64 64 3"],
    *,
    start: int,
    agent_steps: tuple[int, ...],
    num_dreams: int = 1,
) -> None:
    """Draw real frames, V's view of them and M's dreams under the same actions.

    Dreams are samples of the futures M holds possible: its likeliest codes mostly stand still.

    Args:
        episode: a batch of one.
        frames: of its agent steps, the last one included.
        start: the agent step the dreams begin at, M having seen the episode up to there.
        agent steps: since then, rising, of the frames to show; those past the end are left out.
    """
    length = int(episode.mask.sum())
    shown = [step for step in agent_steps if start + step <= length]
    at = torch.zeros(num_dreams, dtype=torch.int64), torch.full((num_dreams,), start)
    states = states_at(vision, memory, episode, *at)
    actions = actions_after(episode, *at, max(1, shown[-1]))
    futures = roll_out(DreamModel(vision, memory), states, actions, seed=start)
    latents = torch.cat([states.latent[None], futures])[shown]
    names = ["M dreams"] if num_dreams == 1 else [f"dream {n}" for n in range(1, num_dreams + 1)]
    places = [start + step for step in shown]
    rows = {
        "real": frames[places],
        "V sees": decode_frames(vision, vision.mode(episode.posteriors[0, places])),
        **{name: decode_frames(vision, latents[:, number]) for number, name in enumerate(names)},
    }
    save_grid(path, rows, [f"decision {step}" for step in shown])


def most_active_episode(episodes: Sequences) -> int:
    """Which episode earns most, and among equals moves most: a standing car tests no dream."""
    merits = []
    for part in episodes.parts(PART_STEPS):
        moves = (part.actions[:, 1:] - part.actions[:, :-1]).abs().sum((1, 2))
        merits.append(part.rewards.sum(1) + 1e-3 * moves)
    return int(torch.cat(merits).argmax())
