"""Sequences of agent steps, from which the batches for training M are cut."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Agent steps per part in a pass over all data, padding included. With 32 latents a part takes
# 17 MB, and about ten times as much during computations.
PART_STEPS = 65_536


@runtime_checkable
class Sequences(Protocol):
    """Whole episodes from which batches are cut.

    The episodes stay on the CPU. Callers move each batch to the model's device.
    """

    @property
    def lengths(self) -> Int[Tensor, "episode"]:
        """The number of agent steps of each episode."""

    @property
    def num_actions(self) -> int:
        """Numbers per action."""

    def __len__(self) -> int:
        """Number of episodes."""

    def windows(
        self, rows: Int[Tensor, "batch"], starts: Int[Tensor, "batch"], length: int
    ) -> "SequenceBatch":
        """Return windows of `length` agent steps.

        Window i is part of the episode with the index `rows[i]`, and begins at the agent step
        `starts[i]`. If an episode ends earlier, its sequence is padded with zeros.
        """

    def parts(self, max_steps: int) -> "Iterator[SequenceBatch]":
        """All episodes in order, in batches of about `max_steps` agent steps, including padding.

        Every batch is padded to the length of the longest of all episodes. Noise that is drawn for
        an episode therefore does not depend on how the episodes are divided into batches.
        """

    def single_steps(self) -> "Sequences":
        """Each agent step as a separate episode of one agent step."""


def part_slices(count: int, longest: int, max_steps: int) -> Iterator[slice]:
    """The slice of episodes for each part of `Sequences.parts`; no part is empty."""
    size = max(1, max_steps // longest)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@dataclass(frozen=True)
class SequenceBatch:
    """B sequences of up to L agent steps; shorter sequences are padded at the end.

    Attributes:
        posteriors: V's encodings of frames 0 to L: float (B, L + 1, 2 Z) or codes (B, L + 1, N).
        actions, rewards, terminated: actions, rewards and terminations of agent steps 0 to L - 1.
        mask: true for real agent steps, false for padding.
    """

    posteriors: Tensor
    actions: Float[Tensor, "batch length action"]
    rewards: Float[Tensor, "batch length"]
    terminated: Bool[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]

    def __getitem__(self, rows: Tensor | slice) -> "SequenceBatch":
        """The sequences that `rows` selects."""
        return SequenceBatch(self.posteriors[rows], *(each[rows] for each in self._of_steps))

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """The number of agent steps of each sequence."""
        return self.mask.sum(1)

    @property
    def num_actions(self) -> int:
        """Numbers per action."""
        return self.actions.shape[-1]

    @property
    def _of_steps(self) -> tuple[Tensor, ...]:
        return self.actions, self.rewards, self.terminated, self.mask

    def parts(self, max_steps: int) -> Iterator["SequenceBatch"]:
        """The sequences in order, in batches of about `max_steps` agent steps."""
        return (self[rows] for rows in part_slices(len(self), self.mask.shape[1], max_steps))

    def windows(
        self, rows: Int[Tensor, "chosen"], starts: Int[Tensor, "chosen"], length: int
    ) -> "SequenceBatch":
        """Return windows of `length` agent steps; window i is part of the sequence `rows[i]`."""
        frames = starts[:, None] + torch.arange(length + 1)
        steps = rows[:, None], frames[:, :-1]
        posteriors = self.posteriors[rows[:, None], frames]
        return SequenceBatch(posteriors, *(each[steps] for each in self._of_steps))

    def single_steps(self) -> "SequenceBatch":
        """Each real agent step as a separate sequence of one agent step."""
        pairs = torch.stack([self.posteriors[:, :-1], self.posteriors[:, 1:]], dim=2)
        steps = (each[self.mask][:, None] for each in self._of_steps)
        return SequenceBatch(pairs[self.mask], *steps)

    def to(self, device: torch.device | str) -> "SequenceBatch":
        """The same batch on another device."""
        moved = (each.to(device) for each in self._of_steps)
        return SequenceBatch(self.posteriors.to(device), *moved)
