"""Which frames are in memory while V trains on more than fit, and threads that fetch them."""

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
    """Steps of training during which the same frames are held.

    Attributes:
        first_step, num_steps: of training.
        episodes: whose frames are held, in this order.
        num_drawn: so many of those, the first, were drawn from the whole store; those after
            them are there so that the newest round is never missing.
    """

    first_step: int
    num_steps: int
    episodes: tuple[int, ...]
    num_drawn: int


@dataclass
class Phases:
    """The phases of a training, a function of the seed and of the episodes' lengths alone.

    Where all frames fit in memory there is one phase, which never ends. Otherwise each pass over
    the store draws a new order and cuts it into phases whose frames fit; a phase lasts for one
    look at each frame drawn.

    Attributes:
        counts: frames of each episode.
        newest: which episodes are of the newest round.
        max_frames: that a phase holds; an episode longer than that is a phase of its own. There
            is memory for two phases.
        newest_fraction: of each batch, and of the frames held, that are of the newest round.
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
        """The phase of that number, counted from 0; there is no last one."""
        self._drawn += islice(self._new, max(0, number + 1 - len(self._drawn)))
        return self._drawn[number]

    def number_at(self, step: int) -> int:
        """The phase that training is in at `step`."""
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
        """Episodes of the newest round that phase `number` holds besides those drawn."""
        order = np.random.default_rng([self.seed, number, 1]).permutation(
            np.flatnonzero(self.newest)
        )
        return order[: self._num_fitting(order, int(self.max_frames * self.newest_fraction))]

    def _num_fitting(self, order: Int[np.ndarray, " episode"], room: int) -> int:
        """How many of the first episodes in `order` have no more frames than `room`."""
        return int(np.searchsorted(np.cumsum(self.counts[order]), room, "right"))


class Fetch:
    """Fills each part of a buffer with the frames of an episode, in threads of its own.

    Decompressing and copying let other Python threads run. The threads end with the program,
    at the next episode.
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
        """How many seconds it took, when the buffer is full; raises what reading raised."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self._finished_at - self._started_at

    def cancel(self) -> None:
        """Stop at the next episode; what the buffer holds then is of no use."""
        list(self._jobs)  # nothing is left to do
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            for episode, part in self._jobs:
                # Python waits for threads when it ends, so they must look whether it does.
                if not threading.main_thread().is_alive():
                    return
                episode.read_frames(part, self._stride)
                self._finished_at = time.perf_counter()
        except Exception as error:  # raised again by whoever waits
            self._errors.append(error)
            list(self._jobs)
