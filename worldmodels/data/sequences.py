"""Sequences of agent steps: what M learns from, a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Agent steps per part in a pass over all data, padding included: 17 MB of 32 latents, and some ten
# times as much while they are worked on.
PART_STEPS = 65_536


@runtime_checkable
class Sequences(Protocol):
    """Whole episodes that batches are cut from.

    They stay on the CPU. Callers move each batch to the model's device.
    """

    @property
    def lengths(self) -> Int[Tensor, "episode"]:
        """Agent steps of each episode."""

    @property
    def num_actions(self) -> int:
        """Numbers per action."""

    def __len__(self) -> int:
        """Number of episodes."""

    def windows(
        self, rows: Int[Tensor, "batch"], starts: Int[Tensor, "batch"], length: int
    ) -> "SequenceBatch":
        """From each chosen episode, `length` agent steps from its start, padded with zeros."""

    def parts(self, max_steps: int) -> "Iterator[SequenceBatch]":
        """All episodes in order, as batches of about `max_steps` agent steps, padding included.

        Every batch is padded to the longest episode of all, so that noise drawn for a batch does
        not depend on how the episodes are divided into parts.
        """

    def single_steps(self) -> "Sequences":
        """Each agent step as an episode of its own, without its past."""


def part_slices(count: int, longest: int, max_steps: int) -> Iterator[slice]:
    """Which episodes each part of `Sequences.parts` holds; one at least."""
    size = max(1, max_steps // longest)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@dataclass(frozen=True)
class SequenceBatch:
    """B sequences of up to L agent steps, padded at their end.

    Attributes:
        posteriors: V's encoding of frames 0..L: float (B, L + 1, 2 Z) or codes (B, L + 1, N).
        actions, rewards, terminated: of agent steps 0..L-1.
        mask: true where an agent step is real, not padding.
    """

    posteriors: Tensor
    actions: Float[Tensor, "batch length action"]
    rewards: Float[Tensor, "batch length"]
    terminated: Bool[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]

    def __getitem__(self, rows: Tensor | slice) -> "SequenceBatch":
        """The chosen sequences."""
        return SequenceBatch(
            self.posteriors[rows],
            self.actions[rows],
            self.rewards[rows],
            self.terminated[rows],
            self.mask[rows],
        )

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """Agent steps of each sequence."""
        return self.mask.sum(1)

    @property
    def num_actions(self) -> int:
        """Numbers per action."""
        return self.actions.shape[-1]

    def parts(self, max_steps: int) -> Iterator["SequenceBatch"]:
        """The sequences in order, in batches of about `max_steps` agent steps."""
        return (self[rows] for rows in part_slices(len(self), self.mask.shape[1], max_steps))

    def windows(
        self, rows: Int[Tensor, "chosen"], starts: Int[Tensor, "chosen"], length: int
    ) -> "SequenceBatch":
        """From each chosen sequence, `length` agent steps from its own start."""
        return self[rows].window(starts, length)

    def window(self, starts: Tensor, length: int) -> "SequenceBatch":
        """From each sequence, `length` agent steps from its own start; starts is int (B,)."""
        rows = torch.arange(len(starts))[:, None]
        frames = starts[:, None] + torch.arange(length + 1)
        steps = frames[:, :-1]
        return SequenceBatch(
            self.posteriors[rows, frames],
            self.actions[rows, steps],
            self.rewards[rows, steps],
            self.terminated[rows, steps],
            self.mask[rows, steps],
        )

    def single_steps(self) -> "SequenceBatch":
        """Each real agent step as a sequence of its own, so that nothing is known of its past."""
        pairs = torch.stack([self.posteriors[:, :-1], self.posteriors[:, 1:]], dim=2)
        return SequenceBatch(
            pairs[self.mask],
            self.actions[self.mask][:, None],
            self.rewards[self.mask][:, None],
            self.terminated[self.mask][:, None],
            self.mask[self.mask][:, None],
        )

    def to(self, device: torch.device | str) -> "SequenceBatch":
        """The same on another device."""
        return SequenceBatch(
            *(getattr(self, name).to(device) for name in self.__dataclass_fields__)
        )
