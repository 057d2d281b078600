"""Allow only one process at a time to write into a folder.

Every process that writes into a folder of results holds the lock of the folder. The operating
system releases the lock when the process ends. Readers need no lock, because writers replace files
and folders by renames. The file `.writer.json` names the process that holds the lock. Only the lock
itself stops other writers, so the files that a killed process has left do no harm.
"""

import contextlib
import functools
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

import filelock

from worldmodels.errors import UserError
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.run import Run
from worldmodels.runs.stage_folder import restore_stages

LOCK = ".lock"
WRITER = ".writer.json"

Stage = TypeVar("Stage", bound=Callable[..., Any])


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Create `folder` if needed, and hold the lock of the folder during the block.

    Within the block, the same process may take the lock again. A new folder that is empty after the
    block is removed.

    Raises: UserError if another process holds the lock; the message names the command and the
        number of that process.
    """
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    _make_folder(folder)
    # A singleton per path, so that a stage within a pipeline may take the same lock again.
    lock = filelock.FileLock(folder.resolve() / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{folder} is being written to by {_describe_owner(folder)}: wait until that process "
            "ends, or stop it"
        ) from None
    try:
        if lock.lock_counter == 1:
            _describe_writer(folder)
            restore_stages(folder)
        yield
    finally:
        if lock.lock_counter == 1:
            (folder / WRITER).unlink(missing_ok=True)
            # The file is removed while the lock is held, so that filelock notices the removal if
            # another process has just opened the file.
            with contextlib.suppress(PermissionError):  # Windows cannot remove open files
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        for place in created:
            with contextlib.suppress(OSError):  # the folder is not empty
                place.rmdir()


def write_lock_if_inside(run: Path, path: Path) -> AbstractContextManager[None]:
    """Return the lock of a run's folder if `path` lies in this folder, or else an empty context."""
    inside = path.resolve().is_relative_to(run.resolve()) and run.is_dir()
    return write_lock(run) if inside else nullcontext()


def locks_run(stage: Stage) -> Stage:
    """Wrap a stage so that every call holds the lock of the run, which is the first argument."""

    @functools.wraps(stage)
    def locked(run: Run, *args: Any, **kwargs: Any) -> Any:
        _ = run.settings  # raises for a missing run, before its folder is made
        with write_lock(run.folder):
            return stage(run, *args, **kwargs)

    return cast(Stage, locked)


def _make_folder(folder: Path) -> None:
    try:
        str(folder).encode()
        folder.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError as error:
        raise UserError(
            f"expected a folder name in UTF-8, got {folder!a}: choose another name"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"expected a folder, or a path for a new folder, got {folder}: a file blocks this path"
        ) from error


def _describe_writer(folder: Path) -> None:
    program = Path(sys.argv[0])
    ours = program.name == "wm" or program.parent.name == "worldmodels"
    words = ["wm" if ours else program.name or "python", *sys.argv[1:]]
    content = {"command": shlex.join(words), "process": os.getpid(), "host": socket.gethostname()}
    write_json(folder / WRITER, content)


def _describe_owner(folder: Path) -> str:
    try:
        content = read_json(folder / WRITER)
        command, process, host = content["command"], content["process"], content["host"]
    except (UserError, TypeError, KeyError):
        return "another process"  # which has not written its name yet
    place = "" if host == socket.gethostname() else f" on {host}"
    return f'"{command}" (process {process}{place})'
