"""Print the progress bars and log lines of a stage, and write TensorBoard events."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import rich.progress
from rich.console import Console
from rich.filesize import decimal

from worldmodels.errors import UserError

Item = TypeVar("Item")

# RAM of a process that has loaded all stages and encoded a few frames (measured: 676 MB).
PROCESS_BYTES = 690_000_000

# Long enough to measure a speed after the first, slower steps, and short compared with a stage.
ESTIMATE_AFTER_SECONDS = 3.0
# Workers take seconds to start and return many episodes at once. The speed is therefore measured
# over a fraction of all steps, or, where that takes long, over whole bursts of steps.
ESTIMATE_AFTER_FRACTION = 0.1
ESTIMATE_AT_LATEST = 30.0


class Report:
    """Prints progress to stderr, so that stdout holds only results.

    If `quiet` is True, nothing is printed.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def log(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def estimate(
        self, what: str, *, disk_bytes: float, folder: Path, memory_bytes: float | None = None
    ) -> None:
        """Print the description `what` of a task, and how much disk and memory the task needs.

        Args:
            memory_bytes: estimated peak RAM of the whole process, without GPU memory; None stands
                for no estimate.

        Raises: UserError if the disk has less free space than `disk_bytes`.
        """
        existing_folder = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing_folder).free
        disk = decimal(int(disk_bytes))
        ram = "" if memory_bytes is None else f", {decimal(int(memory_bytes))} of RAM"
        self.log(f"{what}; about {disk} on disk{ram}")
        if disk_bytes > free:
            raise UserError(
                f"{folder} needs about {disk}, but the disk has only {decimal(free)} free: "
                "make room, or name a folder on another disk"
            )

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Meter]:
        """Show a progress bar with the elapsed time, the remaining time and the latest metrics."""
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[metrics]}"),
        )
        with rich.progress.Progress(*columns, console=self.console, disable=self.quiet) as bar:
            task = bar.add_task(label, total=total, completed=done, metrics="")
            yield Meter(bar, task, self)

    def track(self, label: str, items: Sequence[Item]) -> Iterator[Item]:
        """Yield the items and show a progress bar.

        Read the items in a `for` loop, so that an error in the loop also closes the bar.
        """
        with self.progress(label, total=len(items)) as meter:
            yield from meter.counted(items)


class Meter:
    """A progress bar; soon after its start, the estimated remaining time is logged once."""

    def __init__(
        self, bar: rich.progress.Progress, task: rich.progress.TaskID, report: Report
    ) -> None:
        self._bar = bar
        self._task = task
        self._report = report
        self._shown: dict[str, float] = {}
        self._started = time.monotonic()
        self._first = self.done
        self._estimated = False
        self._seen, self._seen_at = 0, self._started

    @property
    def done(self) -> int:
        """Number of finished steps."""
        return int(self._bar.tasks[self._task].completed)

    def advance(self, steps: int = 1) -> None:
        """Add `steps` to the number of finished steps."""
        self.to(self.done + steps)

    def counted(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; an item counts as a finished step when the next item is requested."""
        for item in items:
            yield item
            self.advance()

    def to(self, done: int) -> None:
        """Set the number of finished steps."""
        self._bar.update(self._task, completed=done)
        now = time.monotonic()
        elapsed = now - self._started
        task = self._bar.tasks[self._task]
        total, new_steps = task.total or done, done - self._first
        enough = new_steps > ESTIMATE_AFTER_FRACTION * total
        next_burst = self._seen > 0 and now - self._seen_at > 1.0 and elapsed > ESTIMATE_AT_LATEST
        self._seen, self._seen_at = new_steps, now
        if self._estimated or elapsed < ESTIMATE_AFTER_SECONDS or not (enough or next_burst):
            return
        self._estimated = True
        seconds_left = elapsed / new_steps * (total - done)
        if seconds_left > ESTIMATE_AFTER_SECONDS:
            left = timedelta(seconds=round(seconds_left))
            self._report.log(f"{task.description}: about {left} to go")

    def show(self, metrics: Mapping[str, float]) -> None:
        """Show metrics next to the bar; a new value of a metric replaces its earlier value."""
        self._shown.update(metrics)
        text = "  ".join(f"{name} {value:.4g}" for name, value in self._shown.items())
        self._bar.update(self._task, metrics=text)


def tensorboard(folder: Path) -> AbstractContextManager[Any]:
    """Return a TensorBoard writer for `folder`, which is closed at the end of a `with` block."""
    # This import takes longer than all other imports of the module together.
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder))
