"""Create a run, and remove the run again if no episode could be stored."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from worldmodels.runs.run import Run


@contextmanager
def created_run(run: Run) -> Iterator[None]:
    """Create the run; if the block raises an exception, remove a new run that has no episodes.

    Otherwise the settings of the new run would conflict with the corrected command. A run stays if
    it existed before the block, or if it has stored episodes.
    """
    was_present = run.exists
    try:
        run.create()
        yield
    except BaseException:
        if not (was_present or any(run.store.folder.glob("*.npz"))):
            (run.folder / "run.json").unlink(missing_ok=True)
            shutil.rmtree(run.folder / "collect", ignore_errors=True)
            for folder in (run.store.folder, run.folder):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        raise
