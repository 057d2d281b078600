"""Files and folders that appear whole or not at all, and are still whole after a power cut.

A rename alone is not enough, because a power cut may leave the new name without the content. The
content is therefore flushed to the disk before the rename. The folder that holds the name is
flushed after the rename.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldmodels.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `path` if the block ends without an exception.

    If the block raises an exception, an existing file at `path` stays unchanged. `path` must not be
    an existing folder. The folder that holds `path` is created if needed. If `path` is a symbolic
    link, the file that the link points to is replaced. If a killed process left a file or a folder
    at the temporary path, that file or folder is removed before the block begins.

    Raises: UserError if `path` is a symbolic link to itself, or into a folder that does not exist.
    """
    target = link_target(path)
    link_target(target.parent).mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    _remove(partial)
    try:
        yield partial
        sync_tree(partial)
        os.replace(partial, target)
        sync(target.parent)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def link_target(path: Path) -> Path:
    """The target of `path` if `path` is a symbolic link, otherwise `path` itself.

    Raises: UserError if `path` is a symbolic link to itself, or into a folder that does not exist,
        for example on a disk that is not mounted.
    """
    if not path.is_symlink():
        return path
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # the latter before Python 3.13
        target = path
    if target.is_symlink():  # from Python 3.13 on, a loop of links is returned unresolved
        raise UserError(f"{path} is a symbolic link to itself: remove the link")
    if not target.parent.is_dir():
        raise UserError(
            f"{path} links to {target}, but {target.parent} is not a folder: mount the disk of "
            "this folder, or remove the link"
        )
    return target


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder, and its renames need no flush
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with everything in it, to the disk."""
    if path.is_file():
        sync(path)
    for parent, _, names in os.walk(path):
        for name in (*names, "."):
            sync(Path(parent, name))
