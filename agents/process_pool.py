"""Processes that run functions, one each at a time, until they are closed or killed."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import util
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import TypeVar

from envs.processes import (
    WorkerDiedError,
    end_processes,
    interrupts_held,
    pickled_error,
    prepare_worker,
    start_process,
)

Item = TypeVar("Item")
Result = TypeVar("Result")
Worker = tuple[SpawnProcess, Connection]


class ProcessPool:
    """Up to `num_processes` processes, each started when it is first needed.

    A thread here waits for each process, over a pipe of its own. The standard library's
    ProcessPoolExecutor has one pipe for the results of all: where a process is killed in the middle
    of a large result, it waits for the rest for ever. It also needs semaphores in shared memory,
    and cannot drop what is queued.
    """

    def __init__(self, num_processes: int) -> None:
        self._threads = ThreadPoolExecutor(num_processes)
        self._lock = threading.Lock()
        self._closed = False
        self._idle: list[Worker] = []
        self._connections: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        # Before multiprocessing waits for all processes, where nobody has closed this.
        util.Finalize(self, end_processes, (self._processes, True), exitpriority=10)

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that run now."""
        with self._lock:
            return [
                process.pid for process in self._processes if process.pid and process.is_alive()
            ]

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """The result of `function(item)` once a process has it.

        The future raises what the function raises, and WorkerDiedError where the process ended.
        """
        return self._threads.submit(self._call, function, item)

    def close(self, immediately: bool = False) -> None:
        """End the processes: after what they are doing, or at once. What is queued is dropped."""
        with self._lock:  # none is being started, and none will be
            self._closed = True
        if immediately:
            end_processes(self._processes, immediately=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
        end_processes(self._processes)

    def _call(self, function: Callable[[Item], Result], item: Item) -> Result:
        message = pickle.dumps((function, item))
        worker = self._acquire_worker()
        connection = worker[1]
        try:
            connection.send_bytes(message)
            answer = connection.recv_bytes()
        except (EOFError, OSError):
            with self._lock:  # others may have been killed while they were idle
                self._idle = [worker for worker in self._idle if worker[0].is_alive()]
            raise WorkerDiedError(
                "a worker process died (killed, out of memory, or crashed)"
            ) from None
        with self._lock:
            self._idle.append(worker)
        error, result = pickle.loads(answer)
        if error is not None:
            raise error
        value: Result = result
        return value

    def _acquire_worker(self) -> Worker:
        """An idle worker, or a new one. There are never more than threads: each takes one."""
        with self._lock:
            if self._closed:
                raise WorkerDiedError("the worker processes were ended")
            if self._idle:
                return self._idle.pop()
            # Not daemons: an environment may have processes of its own.
            with interrupts_held():
                process, connection = start_process(_work, daemon=False)
            self._processes.append(process)
            self._connections.append(connection)
        return process, connection


def _work(connection: Connection) -> None:
    """A process from its start until the parent closes its end of the connection."""
    prepare_worker()
    import torch

    torch.set_num_threads(1)  # OMP_NUM_THREADS does not serve where a script had loaded torch
    # Until the parent has closed its end, or has ended.
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = connection.recv_bytes()
            try:
                function, item = pickle.loads(message)
                answer = pickle.dumps((None, function(item)))
            except Exception as error:
                answer = pickled_error(error)
            connection.send_bytes(answer)
