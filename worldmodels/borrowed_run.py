"""A run of its own for one search, over the V, M and episodes of another."""

import shutil
from pathlib import Path

from worldmodels.run import Run


def borrowed_run(run: Run, folder: Path) -> Run:
    """The run in `folder`, made there from copies of V and M and a link to the episodes.

    One that is there stays as it is, so that its search can go on.
    """
    if not (folder / "run.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "episodes").symlink_to((run.folder / "episodes").resolve())
        for stage in ("vision", "memory"):
            shutil.copytree(run.folder / stage, folder / stage)
        shutil.copyfile(run.folder / "run.json", folder / "run.json")  # last: the folder is whole
    return Run(folder)
