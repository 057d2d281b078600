"""Divide the training of V into phases, so that more frames can be used than fit in memory."""

import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, Int, UInt8

from worldmodels.data.episode import Episode


@dataclass(frozen=True)
class Phase:
    """A range of training steps during which the same frames are in memory.

    Attributes:
        first_step, num_steps: the first training step, and the number of training steps.
        episodes: the indices of the episodes whose frames are in memory, in the order of the
            frames.
        num_drawn: the first `num_drawn` episodes were drawn from the whole store. The other
            episodes were added because they belong to the newest round.
    """

    first_step: int
    num_steps: int
    episodes: tuple[int, ...]
    num_drawn: int


@dataclass
class Phases:
    """The phases of one training; the same episodes, settings and seed give the same phases.

    If all frames fit in memory, there is one phase, which never ends. If the frames do not fit in
    memory, each pass over the store uses a new random order of the episodes. This order is cut into
    phases whose frames fit in memory. A phase lasts until each frame of its first `num_drawn`
    episodes has been drawn once on average.

    Attributes:
        counts: number of frames of each episode.
        newest: for each episode, whether the episode belongs to the newest round.
        max_frames: maximum number of frames in a phase; an episode with more frames is a phase of
            its own. The memory holds two phases at a time.
        newest_fraction: fraction of each batch, and of the frames in memory, that comes from the
            newest round.
    """

    counts: Int[np.ndarray, " episode"]
    newest: Bool[np.ndarray, " episode"]
    max_frames: int
    batch_size: int
    newest_fraction: float
    seed: int

    def __post_init__(self) -> None:
        self.all_fit = int(self.counts.sum()) <= 2 * self.max_frames
        self._drawn: list[Phase] = []
        self._new = self._all_phases()

    def __getitem__(self, number: int) -> Phase:
        """The phase with this number, counted from 0; the series of phases never ends."""
        self._drawn += islice(self._new, max(0, number + 1 - len(self._drawn)))
        return self._drawn[number]

    def number_at(self, step: int) -> int:
        """The number of the phase that holds training step `step`."""
        while not self._drawn or self._drawn[-1].first_step + self._drawn[-1].num_steps <= step:
            self._drawn.append(next(self._new))
        return bisect_right(self._drawn, step, key=lambda phase: phase.first_step) - 1

    def _all_phases(self) -> Iterator[Phase]:
        if self.all_fit:
            everything = tuple(range(len(self.counts)))
            yield Phase(0, sys.maxsize, everything, len(everything))
        step = number = epoch = 0
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.counts))
            while len(order):
                recent = self._newest_of(number)
                room = self.max_frames - int(self.counts[recent].sum())
                if self.counts[order[0]] > room:
                    recent, room = recent[:0], self.max_frames
                drawn, order = np.split(order, [max(1, self._num_fitting(order, room))])
                draws = int(self.counts[drawn].sum()) / max(1.0 - self.newest_fraction, 0.1)
                num_steps = max(1, round(draws / self.batch_size))
                yield Phase(step, num_steps, (*drawn.tolist(), *recent.tolist()), len(drawn))
                step, number = step + num_steps, number + 1
            epoch += 1

    def _newest_of(self, number: int) -> Int[np.ndarray, " kept"]:
        """The episodes of the newest round that are added to the drawn episodes of a phase."""
        order = np.random.default_rng([self.seed, number, 1]).permutation(
            np.flatnonzero(self.newest)
        )
        return order[: self._num_fitting(order, int(self.max_frames * self.newest_fraction))]

    def _num_fitting(self, order: Int[np.ndarray, " episode"], room: int) -> int:
        """The number of episodes at the start of `order` whose frames fit together into `room`."""
        return int(np.searchsorted(np.cumsum(self.counts[order]), room, "right"))


class Fetch:
    """Reads the frames of each episode into one part of a buffer, in separate threads.

    Other Python threads can run while frames are decompressed and copied. When the program ends,
    each reading thread ends after its current episode.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        parts: Sequence[UInt8[np.ndarray, "_ height width channel"]],
        stride: int,
        num_threads: int,
    ) -> None:
        self._jobs = iter(list(zip(episodes, parts, strict=True)))
        self._stride = stride
        self._errors: list[Exception] = []
        self._started_at = self._finished_at = time.perf_counter()
        self._threads = [
            threading.Thread(target=self._work, name="frame reader") for _ in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> float:
        """Wait until all frames are read; return how many seconds reading took.

        Raises: the first error that occurred in a thread.
        """
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self._finished_at - self._started_at

    def cancel(self) -> None:
        """Stop each thread after its current episode; the buffer stays incomplete."""
        list(self._jobs)  # leaves no jobs for the threads
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            for episode, part in self._jobs:
                # Python waits for threads when it ends, so they must check whether it is ending.
                if not threading.main_thread().is_alive():
                    return
                episode.read_frames(part, self._stride)
                self._finished_at = time.perf_counter()
        except Exception as error:  # `wait` raises it again
            self._errors.append(error)
            list(self._jobs)
