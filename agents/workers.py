"""Work over several processes, with the same result for any number of processes.

Work is cut into chunks of one fixed size, and the number of workers decides only which process runs
a chunk. Pass functions and factories that pickle to few bytes, never torch modules, which slow the
parent's later training 2-3x.
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
    """Runs functions in `num_workers` processes, or in this process for 0 or 1.

    As a context manager, it ends the processes on exit, immediately after an exception (also
    Ctrl-C). Processes start when first needed, so that the constructor costs nothing.

    Each process has its own pipe, and a thread of this process waits for it. The standard library's
    ProcessPoolExecutor has one pipe for all results: if a process is killed in the middle of a
    large result, the executor waits for the rest forever. It also needs semaphores in shared
    memory, and cannot drop queued calls.

    Args:
        log: called with one line when a process died and a new one replaced it.
    """

    def __init__(self, num_workers: int, log: Callable[[str], object] = warnings.warn) -> None:
        if num_workers < 0:
            raise ValueError(f"expected 0 workers or more, got {num_workers}")
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
        """End the processes, after their current calls or immediately; `map` then no longer works.

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
        """Ids of the processes that run now."""
        with self._lock:
            processes = [worker.process for worker in self._processes]
            return [each.pid for each in processes if each.pid and each.is_alive()]

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield results in the order of `items`, each when it and all earlier ones are ready.

        At most two items per worker are taken ahead, so that neither items nor results accumulate.

        If a process dies (killed, out of memory), a new one replaces it and repeats its current
        call. The results are the same for functions whose results depend only on their item.

        Raises WorkerDiedError if processes die `MAX_DEATHS` times without a result in between. An
        exception in `function` is raised here unchanged.
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
                        raise WorkerDiedError(f"{deaths} times in a row: {error}") from error
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
        """Return `function(item)` from this thread's process, or from a new one."""
        worker: WorkerProcess | None = getattr(self._of_this_thread, "worker", None)
        with self._lock:
            if self._closed:
                raise WorkerDiedError("the worker processes were ended")
            is_new = worker is None or not worker.process.is_alive()
            if worker is None or is_new:
                # They are not daemons, because an environment may have processes of its own.
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
    """The object in a worker process, which calls the functions that it receives."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)  # OMP_NUM_THREADS has no effect if torch was loaded before

    def call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Return the result of `function(item)`."""
        return function(item)

    def close(self) -> None:
        """Do nothing, as there is nothing to close."""


def chunks(items: Sequence[Item], size: int = CHUNK) -> list[Sequence[Item]]:
    """Split `items` in order into chunks of `size`; the last chunk may be shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def _call_with_one_thread(function: Callable[[Item], Result], item: Item) -> Result:
    """Call with one thread, as in a worker: sums over several threads differ in the last bit."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item)
    finally:
        torch.set_num_threads(num_threads)
