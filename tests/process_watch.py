"""Whether processes still run, for tests of what ends them."""

import os
import time
from collections.abc import Callable
from pathlib import Path


def is_running(process_id: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    # An ended process that nobody has waited for still has its id.
    status = Path(f"/proc/{process_id}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Fails unless the condition comes true within so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
