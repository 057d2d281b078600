"""Files and folders that appear whole or not at all, and are still whole after a power cut.

A rename alone is not enough: a file system may keep the new name and lose the content. So the
content is flushed to the disk before the rename, and the folder that holds the name after it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldmodels.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a partial file; it takes the place of `path` if the block ends normally.

    What was at `path` stays there if the block raises. The folder of `path` is created. If `path`
    is a symbolic link, the file that it points to is replaced.

    Raises: UserError if `path` links into a folder that does not exist.
    """
    target = link_target(path)
    link_target(target.parent).mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        sync(partial)
        os.replace(partial, target)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield the name of a partial folder; it becomes `folder` if the block ends normally.

    What an earlier block left there when it was killed is removed first.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        sync_tree(partial)
        os.replace(partial, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def link_target(path: Path) -> Path:
    """Where `path` points if it is a symbolic link, itself if it is none.

    Raises: UserError if it links into a folder that does not exist, as a disk that is not mounted
        does.
    """
    if not path.is_symlink():
        return path
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # the latter before Python 3.13
        raise UserError(f"{path} is a symbolic link to itself: remove the link") from error
    if not target.parent.is_dir():
        raise UserError(
            f"{path} links to {target}, expected that {target.parent} is a folder: mount its disk, "
            "or remove the link"
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


def sync_tree(folder: Path) -> None:
    """Flush a folder with everything in it to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
