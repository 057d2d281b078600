"""End a command within seconds of Ctrl-C, even while a library is being imported.

Ctrl-C raises KeyboardInterrupt. A library that is being imported may raise another exception
instead of KeyboardInterrupt, or may swallow KeyboardInterrupt, as matplotlib does. This module
therefore records that Ctrl-C was pressed, and ends the process by force if the process is still
running two seconds later. A forced end leaves no broken file, because every file is written
completely or not at all.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
STOPPED = "stopped: run the same command again"
SECONDS = 2.0


class Interrupts:
    """Handler of Ctrl-C in this process.

    Attributes:
        pressed: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._is_ending = False

    def watch(self) -> None:
        """Handle Ctrl-C from now on, unless the parent process made this process ignore Ctrl-C."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)

    def end(self) -> NoReturn:
        """End the process with exit code 130, which stands for an interrupt.

        A normal exit would also unload torch, which takes one second, or three seconds on a busy
        machine. If Ctrl-C was pressed while a library was being imported, a normal exit would end
        the process with the signal SIGINT instead of exit code 130.
        """
        self._is_ending = True
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError):  # the stream is closed, or None
                stream.flush()
        os._exit(INTERRUPTED)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.pressed:
            self.pressed = True
            timer = threading.Timer(SECONDS, self._end_by_force)
            timer.daemon = True
            timer.start()
        raise KeyboardInterrupt

    def _end_by_force(self) -> None:
        if not self._is_ending:
            with contextlib.suppress(OSError, AttributeError):
                print(STOPPED, file=sys.stderr, flush=True)
        # Workers end by themselves after this process, but only once their imports are done.
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(INTERRUPTED)
