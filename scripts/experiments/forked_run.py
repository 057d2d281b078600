"""A run of its own over the episodes and models of another."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from worldmodels.runs.json_files import write_json
from worldmodels.runs.run import RUN, Run


def fork_run(
    run: Run, folder: Path, *, seed: int | None = None, stages: Sequence[str] = ("vision", "memory")
) -> Run:
    """The run in `folder`, made there from copies of stages and a link to the episodes.

    One that is there stays as it is, so that its training can resume.

    Args:
        seed: of the new run; None takes that of `run`.
    """
    if not (folder / RUN).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "episodes").symlink_to((run.folder / "episodes").resolve())
        for stage in stages:
            shutil.copytree(run.folder / stage, folder / stage)
        settings = run.settings if seed is None else replace(run.settings, seed=seed)
        # Last: the folder is whole.
        write_json(folder / RUN, asdict(settings), checksum=True)
    return Run(folder)
