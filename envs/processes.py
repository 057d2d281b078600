"""Worker processes that each keep an object, and call its methods when asked."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

# Spawned, not forked: a fork of a process with torch's threads can deadlock.
SPAWN: SpawnContext = multiprocessing.get_context("spawn")
_CLOSE_SECONDS = 5.0
_SPIN_SECONDS = 200e-6

# A call of the kept object itself, or its answer None. Empty, not a pickle like other messages:
# a step of 16 environments in two processes takes 50 us less, of 1200.
_EMPTY_MESSAGE = b""

# A method's name, its arguments, its keyword arguments.
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


class WorkerDiedError(RuntimeError):
    """A worker process ended without an answer: killed, out of memory, or crashed."""


class ProcessGroup:
    """Processes that each keep the object that `make(*arguments[index])` returns.

    The object can be called without arguments, and has a `close` that is called at its end.

    The processes end when this is closed, collected, or failed by any exception in `call` (then
    at once), and when this process ends, killed or not. Ctrl-C is for this process alone (on
    Windows, once they have started).

    Raises (constructing it, too):
        WorkerDiedError: a process ended without an answer; said at once.
        Exception: what a method raised, in its own type if that can be pickled, else as
            RuntimeError; with the traceback as a note.
    """

    def __init__(self, make: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        """Start a process for each of `arguments` and wait until all have called `make`."""
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection] = []
        self._end = weakref.finalize(self, _end, self._processes, self._connections)
        with self._ended_by_exceptions():
            with interrupts_held(), _one_thread_each():
                for each in arguments:
                    process, connection = start_process(_work, make, each)
                    self._processes.append(process)
                    self._connections.append(connection)
            for index in range(len(arguments)):
                self._receive(index)

    def call(self, calls: Mapping[int, Call]) -> dict[int, Any]:
        """What the methods named for each process return; the processes work at once."""
        return self._send_and_receive({index: pickle.dumps(each) for index, each in calls.items()})

    def call_all(self) -> dict[int, Any]:
        """What the kept objects themselves, called, return: the quickest of calls."""
        return self._send_and_receive(dict.fromkeys(range(len(self._processes)), _EMPTY_MESSAGE))

    def close(self) -> None:
        """End the processes: after what they are doing, or by force if that takes seconds."""
        self._end()

    def _send_and_receive(self, messages: Mapping[int, bytes]) -> dict[int, Any]:
        with self._ended_by_exceptions():
            for index, message in messages.items():
                try:
                    self._connections[index].send_bytes(message)
                except OSError:
                    raise self._died_error(index) from None
            return {index: self._receive(index) for index in messages}

    def _receive(self, index: int) -> Any:
        try:
            # Sleeps in the kernel until there is an answer, or no process to give one.
            answer = self._connections[index].recv_bytes()
        except (EOFError, OSError):
            raise self._died_error(index) from None
        if answer == _EMPTY_MESSAGE:
            return None
        error, result = pickle.loads(answer)
        if error is not None:
            raise error
        return result

    def _died_error(self, index: int) -> WorkerDiedError:
        process = self._processes[index]
        process.join(timeout=1)
        return WorkerDiedError(
            f"worker process {index + 1} of {len(self._processes)} died with exit code "
            f"{process.exitcode} (killed, out of memory, or crashed): run again with fewer "
            "workers, or step the environments in this process to see the error"
        )

    @contextlib.contextmanager
    def _ended_by_exceptions(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # An answer that comes now would be taken for the next question's; and what a worker
            # is doing may take long, which nobody waits for after Ctrl-C.
            end_processes(self._processes, immediately=True)
            self.close()
            raise


def start_process(
    work: Callable[..., None], *arguments: Any, daemon: bool = True
) -> tuple[SpawnProcess, Connection]:
    """Start a process that calls `work(connection, *arguments)`; it and our end of the connection.

    Args:
        daemon: it can have no processes of its own, and ends with this process at the latest.
    """
    ours, theirs = SPAWN.Pipe()
    with theirs:  # closed here: with a copy of ours, its death would not end our reading
        process = SPAWN.Process(target=work, args=(theirs, *arguments), daemon=daemon)
        process.start()
    return process, ours


def end_processes(processes: Sequence[SpawnProcess], immediately: bool = False) -> None:
    """Return when the processes have ended: by themselves within seconds, else by force.

    Args:
        immediately: do not wait for them to end by themselves.
    """
    deadline = time.monotonic() + (0.0 if immediately else _CLOSE_SECONDS)
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    # Not SIGTERM: SDL, where it is loaded, may swallow that, and libraries handle it.
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def prepare_worker() -> None:
    """Make this process per worker: one thread, no screen, no Ctrl-C, no life after its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    os.environ["SDL_NO_SIGNAL_HANDLERS"] = "1"  # else `kill` does not end a process that draws
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a library is loaded
    import cv2

    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers, and they would work, or wait, forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # only ever called in a worker
    parent.join()
    os._exit(1)


def _work(connection: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """A worker process from its start to its end."""
    prepare_worker()
    worker_object = None
    try:
        worker_object = make(*arguments)
        result = None
        while True:
            connection.send_bytes(
                _EMPTY_MESSAGE if result is None else pickle.dumps((None, result))
            )
            _spin_wait(connection)
            message = connection.recv_bytes()
            if message == _EMPTY_MESSAGE:
                result = worker_object()
            else:
                name, args, kwargs = pickle.loads(message)
                result = getattr(worker_object, name)(*args, **kwargs)
    except Exception as error:
        # Or the parent closed its end, which is how it ends us: then nobody will read this.
        with contextlib.suppress(OSError):
            connection.send_bytes(pickled_error(error))
    finally:
        if worker_object is not None:
            worker_object.close()


def _spin_wait(connection: Connection) -> None:
    """Wait awake for a moment, which is as long as a caller that is quick takes to ask again.

    Waking a sleeping process costs the caller 30 to 50 us and the process 60 to 90: two workers
    step 64 environments 1.88 times as fast as one with this, 1.75 times without.
    """
    until = time.perf_counter() + _SPIN_SECONDS
    while not connection.poll() and time.perf_counter() < until:
        pass


def pickled_error(error: Exception) -> bytes:
    """The pickle of (`error`, None), an answer that raises it in the parent."""
    note = f"raised in a worker process:\n{traceback.format_exc()}"
    error.add_note(note)
    try:
        answer = pickle.dumps((error, None))
        pickle.loads(answer)  # an __init__ of its own can be lost on the way
    except Exception:
        plain = RuntimeError(f"{type(error).__qualname__}: {error}")
        plain.add_note(note)
        answer = pickle.dumps((plain, None))
    return answer


def _end(processes: list[SpawnProcess], connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
    end_processes(processes)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile load their libraries for one thread."""
    name = "OMP_NUM_THREADS"  # read when a library is loaded, before any code of ours runs
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits; processes started meanwhile never see one, not even while they import."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starts with the first process, and unblocks interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
