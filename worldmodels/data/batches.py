"""Batches read from stored episodes: frames for V, sequences of decisions for M.

A policy decides every `action_repeat` env steps. Decision i sees `frames[i * repeat]`, its
action is held, and the rewards until the next decision are summed:

    decision     0           1                 D-1
    frame        0           repeat            (D-1) * repeat     T
    action       a_0 a_0 ..  a_1 a_1 ..        a_{D-1} ..
    reward       r_0+r_1+..  r_repeat+..       .. + r_{T-1}
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from agents.rollout import Rollout
from worldmodels.data.store import Episode

# 60,000 frames of 64 x 64 x 3 are 737 MB; more than that is read phase by phase.
MAX_FRAMES_IN_MEMORY = 60_000


@dataclass(frozen=True)
class Decisions:
    """One episode cut into D decisions.

    Attributes:
        frames: uint8 (D + 1, H, W, 3), the last one is what the last decision led to.
        actions: float32 (D, A), the mean over each decision's steps (they are held, so equal).
        rewards: float32 (D,), summed over each decision's steps.
        ended: bool (D,), true where the env terminated; running out of time is no end.
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray

    @classmethod
    def from_rollout(cls, rollout: Rollout, action_repeat: int) -> "Decisions":
        """Gather env steps into decisions; the last decision may be cut short by the end."""
        starts = np.arange(0, rollout.num_steps, action_repeat)
        counts = np.diff(np.append(starts, rollout.num_steps))
        ended = np.zeros(len(starts), bool)
        ended[-1] = rollout.terminated
        sums = np.add.reduceat(rollout.actions, starts, axis=0)
        return cls(
            frames=rollout.frames[np.append(starts, rollout.num_steps)],
            actions=(sums / counts[:, None]).astype(np.float32),
            rewards=np.add.reduceat(rollout.rewards, starts),
            ended=ended,
        )


class FrameBatches:
    """Uniform batches of frames from episodes on disk, in bounded memory.

    All frames stay in memory while they fit. Otherwise training goes through phases: a phase
    holds as many whole episodes as fit, drawn anew each pass, and lasts for one look at each of
    its frames.

    Args:
        stride: keep every stride-th frame; neighbours in time are nearly the same picture.
        recent_fraction: this part of each batch comes from the episodes of the newest round.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        batch_size: int,
        *,
        stride: int = 1,
        recent_fraction: float = 0.0,
        seed: int = 0,
        max_frames: int = MAX_FRAMES_IN_MEMORY,
    ) -> None:
        self.episodes = list(episodes)
        self.batch_size = batch_size
        self.stride = stride
        self.recent_fraction = recent_fraction
        self.seed = seed
        self.max_frames = max_frames
        counts = [episode.num_steps // stride + 1 for episode in self.episodes]
        self.num_frames = sum(counts)
        per_phase = max(1, int(len(counts) * min(1.0, max_frames / max(self.num_frames, 1))))
        self.num_phases = -(-len(counts) // per_phase)
        self._per_phase = per_phase
        self._steps_per_phase = max(1, self.num_frames // (self.num_phases * batch_size))
        self._phase = -1
        self._frames: UInt8[Tensor, "frames height width 3"]
        self._recent: Tensor

    def __call__(
        self, step: int, generator: torch.Generator
    ) -> UInt8[Tensor, "batch height width 3"]:
        """The batch of step `step`; depends on nothing but the step, the generator and the seed."""
        self._load_phase(0 if self.num_phases == 1 else step // self._steps_per_phase)
        picks = torch.randint(len(self._frames), (self.batch_size,), generator=generator)
        num_recent = int(self.batch_size * self.recent_fraction)
        if num_recent and len(self._recent):
            chosen = torch.randint(len(self._recent), (num_recent,), generator=generator)
            picks[:num_recent] = self._recent[chosen]
        return self._frames[picks]

    def all_frames(self) -> UInt8[Tensor, "frames height width 3"]:
        """Every frame of the first phase, in order: the whole of a small store."""
        self._load_phase(0)
        return self._frames

    def _load_phase(self, phase: int) -> None:
        if phase == self._phase:
            return
        order = np.arange(len(self.episodes))
        if self.num_phases > 1:
            epoch = phase // self.num_phases
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        first = (phase % self.num_phases) * self._per_phase
        chosen = [self.episodes[i] for i in order[first : first + self._per_phase]]
        newest = max(episode.meta.get("round", 1) for episode in self.episodes)
        frames, recent = [], []
        for episode in chosen:
            frames.append(episode.load().frames[:: self.stride])
            recent.append(np.full(len(frames[-1]), episode.meta.get("round", 1) == newest))
        self._frames = torch.from_numpy(np.concatenate(frames))
        self._recent = torch.from_numpy(np.flatnonzero(np.concatenate(recent)))
        self._phase = phase


@dataclass(frozen=True)
class SequenceBatch:
    """B sequences of up to L decisions, padded at their end.

    Attributes:
        posteriors: V's encoding of frames 0..L: float (B, L + 1, 2 Z) or codes (B, L + 1, N).
        actions, rewards, ended: of decisions 0..L-1.
        mask: true where a decision is real, not padding.
    """

    posteriors: Tensor
    actions: Float[Tensor, "batch length action"]
    rewards: Float[Tensor, "batch length"]
    ended: Bool[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]

    def __getitem__(self, rows: Tensor | slice) -> "SequenceBatch":
        """The chosen sequences."""
        return SequenceBatch(
            self.posteriors[rows],
            self.actions[rows],
            self.rewards[rows],
            self.ended[rows],
            self.mask[rows],
        )

    def __len__(self) -> int:
        return len(self.mask)

    def window(self, starts: Tensor, length: int) -> "SequenceBatch":
        """From each sequence, `length` decisions from its own start; starts is int (B,)."""
        rows = torch.arange(len(starts), device=starts.device)[:, None]
        frames = starts[:, None] + torch.arange(length + 1, device=starts.device)
        steps = frames[:, :-1]
        return SequenceBatch(
            self.posteriors[rows, frames],
            self.actions[rows, steps],
            self.rewards[rows, steps],
            self.ended[rows, steps],
            self.mask[rows, steps],
        )

    def to(self, device: torch.device | str) -> "SequenceBatch":
        """The same on another device."""
        return SequenceBatch(
            *(getattr(self, name).to(device) for name in self.__dataclass_fields__)
        )
