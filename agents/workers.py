"""The same work over several processes, with the same result whatever their number.

Work is cut into chunks of one fixed size; workers only choose who runs a chunk. Hand them
functions and factories that pickle to small bytes, never torch modules: those slow the
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
CHUNK = 8  # episodes: enough rows for one batched network call, few enough to share out

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Runs functions in `num_workers` processes, or in this one for 0 or 1.

    A context manager: leaving it ends the processes, at once if by an exception (Ctrl-C too).
    Processes start when first needed, so that constructing one costs nothing.

    A thread here waits for each process, over a pipe of its own. The standard library's
    ProcessPoolExecutor has one pipe for the results of all: where a process is killed in the middle
    of a large result, it waits for the rest for ever. It also needs semaphores in shared memory,
    and cannot drop what is queued.

    Args:
        log: called with one line when a process died and another took its place.
    """

    def __init__(self, num_workers: int, log: Callable[[str], object] = warnings.warn) -> None:
        if num_workers < 0:
            raise ValueError(f"expected 0 workers or more, got {num_workers}")
        self.num_workers = num_workers
        self._log = log
        self._threads = ThreadPoolExecutor(max(num_workers, 1))
        self._of_this_thread = threading.local()  # its process
        self._lock = threading.Lock()
        self._closed = False
        self._processes: list[WorkerProcess] = []
        # Before multiprocessing waits for all processes, where nobody has closed this.
        util.Finalize(self, end_processes, (self._processes, True), exitpriority=10)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(immediately=kind is not None)

    def close(self, immediately: bool = False) -> None:
        """End the processes, after what they are doing or at once; nothing can be mapped after.

        What is queued is dropped.
        """
        with self._lock:  # none is being started, and none will be
            self._closed = True
        if immediately:
            end_processes(self._processes, immediately=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
        end_processes(self._processes)

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that run now."""
        with self._lock:
            processes = [worker.process for worker in self._processes]
            return [each.pid for each in processes if each.pid and each.is_alive()]

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of `items`, each as soon as it and those before it are there.

        Takes an item only when a worker will soon want it, two a worker ahead, so that neither
        items nor results pile up.

        Where a process dies (killed, out of memory), another takes its place and what was under
        way in it is done again; functions whose results depend on their item alone give the same
        ones.

        Raises WorkerDiedError where that happens `MAX_DEATHS` times without a result in between;
        an exception in `function` is raised here as it is.
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
                    self._log("a worker process died: what was under way is done again by others")
                    again = self._threads.submit(self._call, function, item)
                    pending.appendleft((item, again))
                else:
                    deaths = 0
                    yield result
        finally:
            for _, future in pending:
                future.cancel()

    def _call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """The result of `function(item)` from this thread's process, or a new one."""
        worker: WorkerProcess | None = getattr(self._of_this_thread, "worker", None)
        with self._lock:
            if self._closed:
                raise WorkerDiedError("the worker processes were ended")
            is_new = worker is None or not worker.process.is_alive()
            if worker is None or is_new:
                # Not daemons: an environment may have processes of its own.
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
    """The object of a process that calls whatever functions it is sent."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)  # OMP_NUM_THREADS does not serve where a script had loaded torch

    def call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """The result of `function(item)`."""
        return function(item)

    def close(self) -> None:
        """Nothing is left to end."""


def chunks(items: Sequence[Item], size: int = CHUNK) -> list[Sequence[Item]]:
    """`items` in order, `size` at a time; the last chunk may be shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def _call_with_one_thread(function: Callable[[Item], Result], item: Item) -> Result:
    """As in a worker: sums over several threads differ in the last bit."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item)
    finally:
        torch.set_num_threads(num_threads)
