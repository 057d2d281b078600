"""Ctrl-C that waits until a step is done."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C back until the caller asks, so that no step is cut in half.

    Yields a function that returns whether Ctrl-C was pressed since. Outside the main thread, where
    Python delivers no signals, it always returns False.
    """
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed:  # after the last time that the caller asked
        raise KeyboardInterrupt
