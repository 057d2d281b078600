"""Stored episodes as V sees them: what M learns from and where dreams begin."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldmodels.data.batches import Decisions, SequenceBatch
from worldmodels.data.store import Episode
from worldmodels.vision import Vision

ENCODE_BATCH = 256


@torch.no_grad()
def encode_frames(vision: Vision, frames: UInt8[np.ndarray, "frames 64 64 3"]) -> Tensor:
    """Posteriors of many frames, on the CPU: float32 (n, 2 Z), or int64 codes (n, N)."""
    device = next(vision.parameters()).device
    parts = [
        vision.encode(torch.from_numpy(frames[start : start + ENCODE_BATCH]).to(device)).cpu()
        for start in range(0, len(frames), ENCODE_BATCH)
    ]
    return torch.cat(parts)


def encode_episodes(
    vision: Vision,
    episodes: Sequence[Episode],
    action_repeat: int,
    on_episode: Callable[[], None] = lambda: None,
) -> SequenceBatch:
    """All episodes as one padded batch of whole sequences of decisions, on the CPU.

    Written into place episode by episode: memory holds the batch once.
    """
    lengths = torch.tensor([-(-episode.num_steps // action_repeat) for episode in episodes])
    shape = len(episodes), int(lengths.max())
    posteriors = actions = torch.empty(0)
    rewards = torch.zeros(shape)
    ended = torch.zeros(shape, dtype=torch.bool)
    for row, episode in enumerate(episodes):
        decisions = Decisions.from_rollout(episode.load(), action_repeat)
        encoded = encode_frames(vision, decisions.frames)
        count = len(decisions.rewards)
        if row == 0:
            posteriors = encoded.new_zeros(shape[0], shape[1] + 1, encoded.shape[1])
            actions = torch.zeros(*shape, decisions.actions.shape[1])
        posteriors[row, : count + 1] = encoded
        actions[row, :count] = torch.from_numpy(decisions.actions)
        rewards[row, :count] = torch.from_numpy(decisions.rewards)
        ended[row, :count] = torch.from_numpy(decisions.ended)
        on_episode()
    mask = torch.arange(shape[1]) < lengths[:, None]
    return SequenceBatch(posteriors, actions, rewards, ended, mask)
