"""Stored episodes as V sees them: what M learns from and where dreams begin."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from agents.rollout import Rollout
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
    lengths = [episode.num_steps for episode in episodes]
    rollouts = (episode.load() for episode in episodes)
    return encode_rollouts(vision, rollouts, lengths, action_repeat, on_episode)


def encode_rollouts(
    vision: Vision,
    rollouts: Iterable[Rollout],
    num_steps: Sequence[int],
    action_repeat: int,
    on_episode: Callable[[], None] = lambda: None,
) -> SequenceBatch:
    """As `encode_episodes`, of rollouts that come one by one; `num_steps` are their lengths."""
    lengths = torch.tensor([-(-steps // action_repeat) for steps in num_steps])
    shape = len(lengths), int(lengths.max())
    posteriors = actions = torch.empty(0)
    rewards = torch.zeros(shape)
    ended = torch.zeros(shape, dtype=torch.bool)
    for row, rollout in enumerate(rollouts):
        decisions = Decisions.from_rollout(rollout, action_repeat)
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
