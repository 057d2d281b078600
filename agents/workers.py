"""The same work over several processes, with the same result whatever their number.

Work is cut into chunks of one fixed size; workers only choose who runs a chunk. Hand them
functions and factories that pickle to small bytes, never torch modules: those slow the
parent's later training 2-3x.
"""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TypeVar

from agents.process_pool import ProcessPool
from envs.processes import WorkerDiedError

MAX_DEATHS = 3
CHUNK = 8  # episodes: enough rows for one batched network call, few enough to share out

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Runs functions in `num_workers` processes, or in this one for 0 or 1.

    A context manager: leaving it ends the processes, at once if by an exception (Ctrl-C too).
    Processes start when first needed, so that constructing one costs nothing.

    Args:
        log: called with one line when a process died and another took its place.
    """

    def __init__(self, num_workers: int, log: Callable[[str], object] = warnings.warn) -> None:
        if num_workers < 0:
            raise ValueError(f"expected 0 workers or more, got {num_workers}")
        self.num_workers = num_workers
        self._log = log
        self._pool: ProcessPool | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(immediately=kind is not None)

    def close(self, immediately: bool = False) -> None:
        """Ends the processes: after what they are doing, or at once."""
        if self._pool is not None:
            self._pool.close(immediately)
            self._pool = None

    @property
    def process_ids(self) -> list[int]:
        """The ids of the processes that run now."""
        return [] if self._pool is None else self._pool.process_ids

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
        pool = self._pool = self._pool or ProcessPool(self.num_workers)
        try:
            while True:
                for item in itertools.islice(rest, 2 * self.num_workers - len(pending)):
                    pending.append((item, pool.submit(function, item)))
                if not pending:
                    return
                try:
                    result = pending[0][1].result()
                except WorkerDiedError as error:
                    deaths += 1
                    if deaths == MAX_DEATHS:
                        raise WorkerDiedError(
                            f"{error} {deaths} times in a row: run again with fewer workers, or "
                            "with 1 to see the error in this process"
                        ) from error
                    self._log("a worker process died: what was under way is done again by others")
                    item, _ = pending.popleft()
                    pending.appendleft((item, pool.submit(function, item)))
                    continue
                pending.popleft()
                deaths = 0
                yield result
        finally:
            for _, future in pending:
                future.cancel()


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
