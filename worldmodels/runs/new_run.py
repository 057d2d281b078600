"""Create a run, and remove it again if it fails or is stopped before it stores an episode."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from worldmodels.runs.run import Run


@contextmanager
def created_run(run: Run) -> Iterator[None]:
    """Create the run; a new run is removed again if the block raises before it stores an episode.

    If the new run stayed, its settings would conflict with the corrected command. A run with stored
    episodes stays.
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
