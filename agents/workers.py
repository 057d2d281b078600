"""The same work over several processes, with the same result whatever their number.

Work is cut into chunks of one fixed size; workers only choose who runs a chunk. Hand them
functions and factories that pickle to small bytes, never torch modules: those slow the
parent's later training 2-3x.
"""

from __future__ import annotations

import itertools
import multiprocessing
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

from envs.processes import WorkerDiedError, prepare_worker

MAX_DEATHS = 3
CHUNK = 8  # episodes: enough rows for one batched network call, few enough to share out

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Runs functions in `num_workers` processes, or in this one for 0 or 1.

    A context manager: leaving it ends the processes, at once if by an exception (Ctrl-C too).
    Processes start when first needed, so that constructing one costs nothing.

    Args:
        say: told a line where a process died and others took its place.
    """

    def __init__(self, num_workers: int, say: Callable[[str], object] = warnings.warn) -> None:
        if num_workers < 0:
            raise ValueError(f"expected 0 workers or more, got {num_workers}")
        self.num_workers = num_workers
        self._say = say
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(at_once=kind is not None)

    def close(self, at_once: bool = False) -> None:
        """Ends the processes: after what they are doing, or at once."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        if at_once:
            # The executor has no public way to do this before Python 3.14.
            for process in list((executor._processes or {}).values()):
                process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of `items`, each as soon as it and those before it are there.

        Takes an item only when a worker will soon want it, two a worker ahead, so that neither
        items nor results pile up.

        Where a process dies (killed, out of memory), others take its place and what was under way
        is done again; functions whose results depend on their item alone give the same ones.

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
                    pending.append((item, self._submit(function, item)))
                if not pending:
                    return
                try:
                    result = pending[0][1].result()
                except BrokenProcessPool as error:
                    deaths += 1
                    self._replace_dead(deaths, error)
                    pending = deque((item, self._submit(function, item)) for item, _ in pending)
                    continue
                pending.popleft()
                deaths = 0
                yield result
        finally:
            for _, future in pending:
                future.cancel()

    def _submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        if self._executor is None:
            self._executor = _start_executor(self.num_workers)
        try:
            return self._executor.submit(function, item)
        except BrokenProcessPool as error:  # it died since the last result
            failed: Future[Result] = Future()
            failed.set_exception(error)
            return failed

    def _replace_dead(self, deaths: int, error: BrokenProcessPool) -> None:
        self.close(at_once=True)
        if deaths == MAX_DEATHS:
            raise WorkerDiedError(
                f"a worker process died (killed, out of memory, or crashed) {deaths} times in a "
                "row: run again with fewer workers, or with 1 to see the error in this process"
            ) from error
        self._say("a worker process died: what was under way is done again by others")


def chunks(items: Sequence[Item], size: int = CHUNK) -> list[Sequence[Item]]:
    """`items` in order, `size` at a time; the last chunk may be shorter."""
    if size < 1:
        raise ValueError(f"expected a chunk size of 1 or more, got {size}")
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


def _start_executor(num_workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork of a process with torch's threads can deadlock.
    return ProcessPoolExecutor(
        max_workers=num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_worker,
    )


def _prepare_worker() -> None:
    prepare_worker()
    import torch

    torch.set_num_threads(1)  # OMP_NUM_THREADS does not serve where a script had loaded torch
