"""Which frames are in memory while V trains on more than fit, and a thread that fetches them."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


class Phases:
    """The phases of a training, a function of the seed and of the episodes' lengths alone.

    Each pass over the store draws a new order and cuts it into phases whose frames fit; a phase
    lasts for one look at each frame drawn.

    Args:
        counts: frames of each episode.
        newest: which episodes are of the newest round.
        max_frames: that a phase holds; an episode longer than that is a phase of its own.
        newest_fraction: of each batch, and of the frames held, that are of the newest round.
    """

    def __init__(
        self,
        counts: Int[np.ndarray, " episode"],
        newest: Bool[np.ndarray, " episode"],
        *,
        max_frames: int,
        batch_size: int,
        newest_fraction: float,
        seed: int,
    ) -> None:
        self.counts = counts
        self.newest = np.flatnonzero(newest)
        self.max_frames = max_frames
        self.batch_size = batch_size
        self.newest_fraction = newest_fraction
        self.seed = seed
        self._drawn_phases: list[Phase] = []
        self._new_phases = self._all_phases()

    def __getitem__(self, number: int) -> Phase:
        """The phase of that number, counted from 0; there is no last one."""
        while len(self._drawn_phases) <= number:
            self._drawn_phases.append(next(self._new_phases))
        return self._drawn_phases[number]

    def number_at(self, step: int) -> int:
        """The phase that training is in at `step`."""
        number = 0 if not self._drawn_phases else len(self._drawn_phases) - 1
        while self[number].first_step + self[number].num_steps <= step:
            number += 1
        while self[number].first_step > step:
            number -= 1
        return number

    def _all_phases(self) -> Iterator[Phase]:
        step = number = epoch = 0
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.counts))
            first = 0
            while first < len(order):
                recent = self._newest_of(number)
                room = self.max_frames - int(self.counts[recent].sum())
                if self.counts[order[first]] > room:
                    recent, room = recent[:0], self.max_frames
                ends = np.cumsum(self.counts[order[first:]])
                drawn = order[first : first + max(1, int(np.searchsorted(ends, room, "right")))]
                draws = int(self.counts[drawn].sum()) / max(1.0 - self.newest_fraction, 0.1)
                phase = Phase(
                    first_step=step,
                    num_steps=max(1, round(draws / self.batch_size)),
                    episodes=(*drawn.tolist(), *recent.tolist()),
                    num_drawn=len(drawn),
                )
                yield phase
                step, number = step + phase.num_steps, number + 1
                first += len(drawn)
            epoch += 1

    def _newest_of(self, number: int) -> Int[np.ndarray, " kept"]:
        """Episodes of the newest round that phase `number` holds besides those drawn."""
        room = int(self.max_frames * self.newest_fraction)
        order = np.random.default_rng([self.seed, number, 1]).permutation(self.newest)
        ends = np.cumsum(self.counts[order])
        return order[: int(np.searchsorted(ends, room, "right"))]


class Fetch:
    """Fills a buffer with the frames of some episodes, in threads of its own.

    Decompressing and copying let other Python threads run. The threads end with the program,
    at the next episode.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        stride: int,
        buffer: UInt8[np.ndarray, "room height width channel"],
        num_threads: int,
    ) -> None:
        ends = np.cumsum([episode.num_frames(stride) for episode in episodes])
        self.num_frames = int(ends[-1])
        places = zip([0, *ends[:-1]], ends, strict=True)
        jobs = iter([(e, buffer[i:j]) for e, (i, j) in zip(episodes, places, strict=True)])
        self._stride = stride
        self._stop = threading.Event()
        self._errors: list[Exception] = []
        self._started_at = self._finished_at = time.perf_counter()
        self._threads = [
            threading.Thread(target=self._work, args=(jobs,), name="frame reader")
            for _ in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Returns when the buffer is full; raises what reading raised."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return self._finished_at - self._started_at

    def cancel(self) -> None:
        """Stop at the next episode; what the buffer holds then is of no use."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, jobs: Iterator[tuple[Episode, np.ndarray]]) -> None:
        try:
            for episode, buffer_part in jobs:
                # Python waits for threads when it ends, so they must look whether it does.
                if self._stop.is_set() or not threading.main_thread().is_alive():
                    return
                episode.read_frames(buffer_part, self._stride)
                self._finished_at = time.perf_counter()
        except Exception as error:  # raised again by whoever waits
            self._errors.append(error)
            self._stop.set()
