"""A run of its own for one search, over the V, M and episodes of another."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from worldmodels.runs.json_files import write_json
from worldmodels.runs.run import RUN, Run


def borrowed_run(run: Run, folder: Path, seed: int | None = None) -> Run:
    """The run in `folder`, made there from copies of V and M and a link to the episodes.

    One that is there stays as it is, so that its search can resume.

    Args:
        seed: of the new run; None takes that of `run`.
    """
    if not (folder / RUN).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "episodes").symlink_to((run.folder / "episodes").resolve())
        for stage in ("vision", "memory"):
            shutil.copytree(run.folder / stage, folder / stage)
        settings = run.settings if seed is None else replace(run.settings, seed=seed)
        # Last: the folder is whole.
        write_json(folder / RUN, asdict(settings), checksum=True)
    return Run(folder)
