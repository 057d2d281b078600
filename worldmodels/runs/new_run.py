"""A new run that is refused, or stopped, while its first episodes are played."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from worldmodels.runs.run import Run


@contextmanager
def created_run(run: Run) -> Iterator[None]:
    """Create the run; a new one is removed again if the block raises before an episode is stored.

    Otherwise its settings would stand against the corrected command. Episodes that are stored stay.
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
