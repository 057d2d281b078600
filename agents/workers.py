"""Distribute work over processes; the results are the same for any number of processes.

Work is cut into chunks of one fixed size. The number of workers determines only which process runs
a chunk. Functions and items are pickled, so their pickles should be small. Never pass torch
modules, because that makes later training in the parent process 2 to 3 times as slow.
"""

from __future__ import annotations

import itertools
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import util
from typing import TypeVar

from envs.processes import WorkerDiedError, WorkerProcess, end_processes, interrupts_held

MAX_DEATHS = 3
CHUNK = 8  # episodes: enough rows for one batched network call, few enough for several workers

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Runs functions in `num_workers` processes, or in this process if `num_workers` is 0 or 1.

    If a `Workers` object is used as a context manager, the processes end when the `with` block
    ends. After an exception or Ctrl-C, the processes end at once, even during calls. A process
    starts when it is first needed, so the constructor takes no time.

    Each worker process has its own pipe, and a separate thread of the parent process reads from
    each pipe. This class does not use the standard library's ProcessPoolExecutor, which has one
    pipe for all results. If a worker process is killed while it sends a large result,
    ProcessPoolExecutor waits forever for the rest of this result. ProcessPoolExecutor also needs
    semaphores in shared memory.

    Args:
        log: function that is called with one line of text whenever a worker process has died and a
            new process replaces it.
    """

    def __init__(self, num_workers: int, log: Callable[[str], object] = warnings.warn) -> None:
        if num_workers < 0:
            raise ValueError(f"expected at least 0 workers, got {num_workers}")
        self.num_workers = num_workers
        self._log = log
        self._threads = ThreadPoolExecutor(max(num_workers, 1))
        self._of_this_thread = threading.local()  # the thread's process
        self._lock = threading.Lock()
        self._closed = False
        self._processes: list[WorkerProcess] = []
        # Without `close`, this ends the processes at exit, before multiprocessing waits for them.
        util.Finalize(self, end_processes, (self._processes, True), exitpriority=10)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(immediately=kind is not None)

    def close(self, immediately: bool = False) -> None:
        """End the processes; `map` cannot be used afterwards.

        The processes end after their current calls, or at once if `immediately` is True.

        Queued calls are dropped.
        """
        with self._lock:  # no process is being started, and none will be
            self._closed = True
        if immediately:
            end_processes(self._processes, immediately=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
        end_processes(self._processes)

    @property
    def process_ids(self) -> list[int]:
        """Ids of the processes that are running."""
        with self._lock:
            processes = [worker.process for worker in self._processes]
            return [each.pid for each in processes if each.pid and each.is_alive()]

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result of `function` for each item, in the order of `items`.

        A result is yielded as soon as this result and all earlier results exist. At most two items
        per worker are taken from `items` in advance, so that neither items nor results accumulate.

        If a process dies, for example because it is out of memory, a new process replaces it and
        repeats the interrupted call. The results stay the same if the result of `function` depends
        only on the item.

        Raises WorkerDiedError if processes die `MAX_DEATHS` times in a row, with no result in
        between. An exception in `function` is raised in the calling process.
        """
        if self.num_workers <= 1:
            for item in items:
                yield _call_with_one_thread(function, item)
            return
        pending: deque[tuple[Item, Future[Result]]] = deque()
        rest, deaths = iter(items), 0
        try:
            while True:
                for item in itertools.islice(rest, 2 * self.num_workers - len(pending)):
                    pending.append((item, self._threads.submit(self._call, function, item)))
                if not pending:
                    return
                item, future = pending.popleft()
                try:
                    result = future.result()
                except WorkerDiedError as error:
                    deaths += 1
                    if deaths == MAX_DEATHS:
                        raise WorkerDiedError(
                            f"worker processes died {deaths} times in a row: {error}"
                        ) from error
                    self._log("a worker process died: its work is repeated in a new process")
                    again = self._threads.submit(self._call, function, item)
                    pending.appendleft((item, again))
                else:
                    deaths = 0
                    yield result
        finally:
            for _, future in pending:
                future.cancel()

    def _call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Return `function(item)`, computed by this thread's worker process.

        If this thread has no living worker process, a new process is started.
        """
        worker: WorkerProcess | None = getattr(self._of_this_thread, "worker", None)
        with self._lock:
            if self._closed:
                raise WorkerDiedError("this call cannot run, because the workers were ended")
            is_new = worker is None or not worker.process.is_alive()
            if worker is None or is_new:
                # Workers are not daemons, because an environment may have processes of its own.
                with interrupts_held():
                    worker = WorkerProcess("a worker process", _Caller, daemon=False)
                self._of_this_thread.worker = worker
                self._processes.append(worker)
        if is_new:
            worker.receive()
        worker.send(("call", (function, item), {}))
        result: Result = worker.receive()
        return result


class _Caller:
    """The object in a worker process, which calls the functions that the parent process sends."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)  # OMP_NUM_THREADS has no effect if torch was loaded before

    def call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Return the result of `function(item)`."""
        return function(item)

    def close(self) -> None:
        """Do nothing, as there is nothing to close."""


def chunks(items: Sequence[Item], size: int = CHUNK) -> list[Sequence[Item]]:
    """Split `items`, in order, into chunks of `size` items; the last chunk may be shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def _call_with_one_thread(function: Callable[[Item], Result], item: Item) -> Result:
    """Return `function(item)`, computed with one thread of torch, as in a worker process.

    With another number of threads, sums could differ in the last bit.
    """
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item)
    finally:
        torch.set_num_threads(num_threads)
