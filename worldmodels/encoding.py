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
    """All episodes as one padded batch of whole sequences of decisions, on the CPU."""
    posteriors, actions, rewards, ended = [], [], [], []
    for episode in episodes:
        decisions = Decisions.from_rollout(episode.load(), action_repeat)
        posteriors.append(encode_frames(vision, decisions.frames))
        actions.append(torch.from_numpy(decisions.actions).float())
        rewards.append(torch.from_numpy(decisions.rewards).float())
        ended.append(torch.from_numpy(decisions.ended))
        on_episode()
    lengths = torch.tensor([len(item) for item in rewards])
    return SequenceBatch(
        posteriors=_pad(posteriors),
        actions=_pad(actions),
        rewards=_pad(rewards),
        ended=_pad(ended),
        mask=torch.arange(int(lengths.max())) < lengths[:, None],
    )


def _pad(items: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
