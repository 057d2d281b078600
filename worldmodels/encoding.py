"""Stored episodes as V sees them: what M learns from and where dreams begin."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from agents.rollout import Rollout
from worldmodels.data.batches import Decisions, SequenceBatch
from worldmodels.data.store import Episode
from worldmodels.device import device_of
from worldmodels.vision import Vision

ENCODE_BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """One episode of D decisions as V sees it: float32 (D + 1, 2 Z) or codes, and the rest."""

    posteriors: Tensor
    actions: Float[Tensor, "decision action"]
    rewards: Float[Tensor, "decision"]
    ended: Bool[Tensor, "decision"]


class Encodings:
    """What the V asked last made of episodes, so that one stage need not encode after another.

    Args:
        max_decisions: kept at most, 260 bytes each over 32 latents.
    """

    def __init__(self, max_decisions: int = 1_000_000) -> None:
        self.max_decisions = max_decisions
        self._vision = b""
        self._known: dict[tuple[str, int], Encoded] = {}
        self._decisions = 0

    def of(self, vision: Vision, action_repeat: int) -> Callable[[Episode], Encoded]:
        """What encodes episodes, or remembers how this V has encoded them before."""
        digest = _digest(vision)
        if digest != self._vision:
            self._vision, self._known, self._decisions = digest, {}, 0

        def of_episode(episode: Episode) -> Encoded:
            key = episode.digest, action_repeat
            encoded = self._known.get(key)
            if encoded is None:
                encoded = encode(vision, episode.load(), action_repeat)
                if self._decisions + len(encoded.rewards) <= self.max_decisions:
                    self._known[key] = encoded
                    self._decisions += len(encoded.rewards)
            return encoded

        return of_episode


def _digest(vision: Vision) -> bytes:
    digest = hashlib.sha256()
    for weights in vision.state_dict().values():
        digest.update(weights.cpu().contiguous().numpy().tobytes())
    return digest.digest()


@torch.no_grad()
def encode_frames(vision: Vision, frames: UInt8[np.ndarray, "frames 64 64 3"]) -> Tensor:
    """Posteriors of many frames, on the CPU: float32 (n, 2 Z), or int64 codes (n, N)."""
    device = device_of(vision)
    parts = [
        vision.encode(torch.from_numpy(frames[start : start + ENCODE_BATCH]).to(device)).cpu()
        for start in range(0, len(frames), ENCODE_BATCH)
    ]
    return torch.cat(parts)


def encode(vision: Vision, rollout: Rollout, action_repeat: int) -> Encoded:
    """An episode's decisions, on the CPU."""
    decisions = Decisions.from_rollout(rollout, action_repeat)
    return Encoded(
        encode_frames(vision, decisions.frames),
        torch.from_numpy(decisions.actions),
        torch.from_numpy(decisions.rewards),
        torch.from_numpy(decisions.ended),
    )


def encode_episodes(
    vision: Vision,
    episodes: Sequence[Episode],
    action_repeat: int,
    on_episode: Callable[[], None] = lambda: None,
    encodings: Encodings | None = None,
) -> SequenceBatch:
    """All episodes as one padded batch of whole sequences of decisions, on the CPU.

    Written into place episode by episode: memory holds the batch once.

    Args:
        encodings: of earlier calls, where those of this V and these episodes need not be made anew.
    """
    made = Encodings(max_decisions=0) if encodings is None else encodings
    lengths = [episode.num_steps for episode in episodes]
    each = map(made.of(vision, action_repeat), episodes)
    return _padded(each, lengths, action_repeat, on_episode)


def encode_rollouts(
    vision: Vision,
    rollouts: Iterable[Rollout],
    num_steps: Sequence[int],
    action_repeat: int,
) -> SequenceBatch:
    """As `encode_episodes`, of rollouts that come one by one; `num_steps` are their lengths."""
    each = (encode(vision, rollout, action_repeat) for rollout in rollouts)
    return _padded(each, num_steps, action_repeat, lambda: None)


def _padded(
    each: Iterable[Encoded],
    num_steps: Sequence[int],
    action_repeat: int,
    on_episode: Callable[[], None],
) -> SequenceBatch:
    lengths = torch.tensor([-(-steps // action_repeat) for steps in num_steps])
    shape = len(lengths), int(lengths.max())
    posteriors = actions = torch.empty(0)
    rewards = torch.zeros(shape)
    ended = torch.zeros(shape, dtype=torch.bool)
    for row, encoded in enumerate(each):
        count = len(encoded.rewards)
        if row == 0:
            width = encoded.posteriors.shape[1]
            posteriors = encoded.posteriors.new_zeros(shape[0], shape[1] + 1, width)
            actions = torch.zeros(*shape, encoded.actions.shape[1])
        posteriors[row, : count + 1] = encoded.posteriors
        actions[row, :count] = encoded.actions
        rewards[row, :count] = encoded.rewards
        ended[row, :count] = encoded.ended
        on_episode()
    mask = torch.arange(shape[1]) < lengths[:, None]
    return SequenceBatch(posteriors, actions, rewards, ended, mask)
