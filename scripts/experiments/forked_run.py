"""A new run that uses the episodes and models of another run."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from worldmodels.runs.json_files import write_json
from worldmodels.runs.run import RUN, Run


def fork_run(
    run: Run, folder: Path, *, seed: int | None = None, stages: Sequence[str] = ("vision", "memory")
) -> Run:
    """Make a run in `folder` with copies of stages of `run` and a link to the episodes of `run`.

    If `folder` already holds a run, that run is kept, so that its training can resume.

    Args:
        seed: seed of the new run. If `seed` is None, the new run has the seed of `run`.
    """
    if not (folder / RUN).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "episodes").symlink_to((run.folder / "episodes").resolve())
        for stage in stages:
            shutil.copytree(run.folder / stage, folder / stage)
        settings = run.settings if seed is None else replace(run.settings, seed=seed)
        # This file comes last, since it marks the folder as complete.
        write_json(folder / RUN, asdict(settings), checksum=True)
    return Run(folder)
