"""Defer Ctrl-C until a step is done."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Record Ctrl-C during the block instead of raising KeyboardInterrupt at once.

    Yields a function that returns whether Ctrl-C was pressed in the block so far. The caller checks
    this function between steps, so that no step is interrupted. If Ctrl-C was pressed, the end of
    the block raises KeyboardInterrupt. Outside the main thread, where Python delivers no signals,
    the function always returns False.
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
    if pressed:  # Ctrl-C may have come after the caller's last check
        raise KeyboardInterrupt
