"""Batches of frames for V, and episodes that are cut into agent steps for M.

A policy selects an action every `action_repeat` env steps. At agent step i, the policy gets
`frames[i * repeat]`, where `repeat` stands for `action_repeat`. The policy's action is held until
the next agent step, and the rewards of the agent step's env steps are summed:

    agent step     0           1                 D-1
    frame        0           repeat            (D-1) * repeat     T
    action       a_0 a_0 ..  a_1 a_1 ..        a_{D-1} ..
    reward       r_0+r_1+..  r_repeat+..       .. + r_{T-1}
"""

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from agents.rollout import Rollout
from worldmodels.data.episode import Episode
from worldmodels.data.phases import Fetch, Phases
from worldmodels.hardware import num_cores

# 48,000 frames of 64 x 64 x 3 are 590 MB, which leaves a process that trains V below 2 GiB
# (measured: 1.7 GB); more than that is read phase by phase.
MAX_FRAMES_IN_MEMORY = 48_000
# Size of the sample of a larger store, where all its frames are asked for.
MAX_SAMPLED_FRAMES, MAX_SAMPLED_EPISODES = 10_000, 64


@dataclass(frozen=True)
class AgentSteps:
    """One episode, which is cut into D agent steps.

    Attributes:
        frames: uint8 (D + 1, H, W, 3), one frame before each agent step and one frame after the
            last agent step.
        actions: float32 (D, A), the action that was held during each agent step. This action is
            computed as the mean of the actions in the env steps of the agent step.
        rewards: float32 (D,), summed over the env steps of each agent step.
        terminated: bool (D,), true for the last agent step if the env terminated the episode. If
            a time limit ended the episode, all values are false.
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray

    @classmethod
    def from_rollout(cls, rollout: Rollout, action_repeat: int) -> "AgentSteps":
        """Gather env steps into agent steps; the last agent step may have fewer env steps."""
        starts = np.arange(0, rollout.num_steps, action_repeat)
        bounds = np.append(starts, rollout.num_steps)
        sums = np.add.reduceat(rollout.actions, starts, axis=0)
        return cls(
            frames=rollout.frames[bounds],
            actions=(sums / np.diff(bounds)[:, None]).astype(np.float32),
            rewards=np.add.reduceat(rollout.rewards, starts),
            terminated=rollout.terminated & (starts == starts[-1]),
        )


class FrameBatch(NamedTuple):
    """Frames, each with the mean frame of its episode, which shows what does not move.

    Attributes:
        frames: uint8 (B, H, W, 3).
        still: uint8 (B, H, W, 3), the mean over the frames of the same episode.
    """

    frames: UInt8[Tensor, "batch height width 3"]
    still: UInt8[Tensor, "batch height width 3"]

    def to(self, device: torch.device | str) -> "FrameBatch":
        """Return the same batch on another device."""
        return FrameBatch(self.frames.to(device), self.still.to(device))


class FrameBatches:
    """Draws random batches of frames from episodes on disk, and uses limited memory.

    If all frames fit in memory, all of them stay there. Otherwise, training has several phases. A
    phase holds as many whole episodes as fit in half of the memory. The phase lasts until each
    frame of these episodes has been drawn once on average. During a phase, the other half of the
    memory is filled with the frames of the next phase.

    Args:
        episodes: episodes that all share one env, one action size and one frame size, as the
            episodes of a store do.
        stride: only every stride-th frame is used, because consecutive frames are nearly equal.
        recent_fraction: fraction of each batch that comes from the episodes of the newest round.
        max_frames: maximum number of frames in memory, in both halves together.
        num_readers: number of reading threads. If `num_readers` is None, there is one thread for
            every four cores.

    Attributes:
        seconds_waited: total number of seconds that calls waited for frames, including the frames
            of the first phase.
        frames_read, seconds_read: the number of frames that were read so far in all phases, and
            the number of seconds that reading took.

    Raises: UserError if a call reads a damaged file.
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
        num_readers: int | None = None,
    ) -> None:
        self.episodes = list(episodes)
        self.batch_size = batch_size
        self.stride = stride
        self.recent_fraction = recent_fraction
        self.num_readers = num_readers or max(1, num_cores() // 4)
        self.seconds_waited = self.seconds_read = 0.0
        self.frames_read = 0
        self._frame_shape = self.episodes[0].frame_shape
        rounds = np.array([episode.round for episode in self.episodes])
        self._newest = rounds == rounds.max()
        self._counts = np.array([episode.num_frames(stride) for episode in self.episodes])
        self.num_frames = int(self._counts.sum())
        self._phases = Phases(
            self._counts, self._newest, max_frames // 2, batch_size, recent_fraction, seed
        )
        self.fits_in_memory = self._phases.all_fit
        self._number: int | None = None
        self._prefetched: dict[int, Fetch] = {}  # of the next phase, by its number
        weakref.finalize(self, _cancel, self._prefetched)

    def __call__(self, step: int, generator: torch.Generator) -> FrameBatch:
        """The batch of a training step, which depends only on `step`, `generator` and `seed`."""
        self._load_phase(self._phases.number_at(step))
        indices = torch.randint(self._num_drawn, (self.batch_size,), generator=generator)
        num_recent = int(self.batch_size * self.recent_fraction)
        if num_recent and len(self._recent):
            chosen = torch.randint(len(self._recent), (num_recent,), generator=generator)
            indices[:num_recent] = self._recent[chosen]
        return FrameBatch(self._frames[indices], self._still[self._episode_of[indices]])

    def all_frames(self) -> UInt8[Tensor, "frames height width 3"]:
        """Return all frames in order if they fit in memory, otherwise an evenly spaced sample."""
        if self.fits_in_memory:
            self._load_phase(0)
            return self._frames
        return self._sample().frames

    def spread(self, most: int) -> FrameBatch:
        """At most `most` evenly spaced frames, as a copy, so that all other frames can be freed."""
        if not self.fits_in_memory:
            sample = self._sample()
            chosen = slice(None, None, max(1, -(-len(sample.frames) // most)))
            return FrameBatch(sample.frames[chosen][:most], sample.still[chosen][:most])
        self._load_phase(0)
        indices = torch.arange(0, self.num_frames, max(1, -(-self.num_frames // most)))[:most]
        return FrameBatch(self._frames[indices], self._still[self._episode_of[indices]])

    def _sample(self) -> FrameBatch:
        """Evenly spaced frames of evenly spaced episodes, for a store that does not fit."""
        chosen = self.episodes[:: -(-len(self.episodes) // MAX_SAMPLED_EPISODES)]
        max_frames_per_episode = max(1, MAX_SAMPLED_FRAMES // len(chosen))
        sample, still = [], []
        for episode in chosen:
            frames = np.empty((episode.num_frames(self.stride), *self._frame_shape), np.uint8)
            episode.read_frames(frames, self.stride)
            sample.append(frames[:: -(-len(frames) // max_frames_per_episode)].copy())
            still.append(np.broadcast_to(_mean_frame(frames), sample[-1].shape))
        return FrameBatch(*(torch.from_numpy(np.concatenate(part)) for part in (sample, still)))

    def _load_phase(self, number: int) -> None:
        """Load the frames of a phase, and start to fetch the frames of the next phase."""
        if number == self._number:
            return
        started = time.perf_counter()
        if number not in self._prefetched:
            _cancel(self._prefetched)
            self._fetch(number)
        self.seconds_read += self._prefetched.pop(number).wait()
        self.seconds_waited += time.perf_counter() - started
        phase = self._phases[number]
        counts = self._counts[list(phase.episodes)]
        self._frames: UInt8[Tensor, "frames height width 3"] = torch.from_numpy(
            self._buffer(number)[: counts.sum()]
        )
        self.frames_read += len(self._frames)
        parts = np.split(self._frames.numpy(), np.cumsum(counts)[:-1])
        self._still = torch.from_numpy(np.stack([_mean_frame(part) for part in parts]))
        self._episode_of = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        self._num_drawn = int(counts[: phase.num_drawn].sum())
        newest = np.repeat(self._newest[list(phase.episodes)], counts)
        self._recent = torch.from_numpy(np.flatnonzero(newest))
        self._number = number
        if not self.fits_in_memory:
            self._fetch(number + 1)

    def _fetch(self, number: int) -> None:
        chosen = self._phases[number].episodes
        ends = np.cumsum(self._counts[list(chosen)])
        parts = np.split(self._buffer(number)[: ends[-1]], ends[:-1])
        episodes = [self.episodes[i] for i in chosen]
        self._prefetched[number] = Fetch(episodes, parts, self.stride, self.num_readers)

    @cached_property
    def _buffers(self) -> list[UInt8[np.ndarray, "room height width 3"]]:
        """Buffers for the frames of phases; memory is allocated only when a buffer is filled."""
        room = max(self._phases.max_frames, int(self._counts.max()))
        rooms = [self.num_frames] if self.fits_in_memory else [room, room]
        return [np.empty((room, *self._frame_shape), np.uint8) for room in rooms]

    def _buffer(self, number: int) -> UInt8[np.ndarray, "room height width 3"]:
        """The buffer of phase `number`; consecutive phases alternate between the buffers."""
        return self._buffers[number % len(self._buffers)]


def _mean_frame(
    frames: UInt8[np.ndarray, "frames height width 3"],
) -> UInt8[np.ndarray, "height width 3"]:
    mean: np.ndarray = frames.mean(0, dtype=np.float32)
    return mean.round().astype(np.uint8)


def _cancel(fetches: dict[int, Fetch]) -> None:
    while fetches:
        fetches.popitem()[1].cancel()
