"""A stage's folder, which is written under another name and then renamed as a whole.

A commit first renames the old folder and then gives the new folder the stage's name. Between
these two renames, the old folder is valid, and readers read from it. After a kill between the
renames, the next writer puts the old folder back.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from worldmodels.data.durable import link_target, sync, sync_tree
from worldmodels.errors import UserError
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.provenance import file_digest, versions

MANIFEST = "manifest.json"
RESULT = "result.json"
# Files that an unfinished stage needs to continue after a kill.
CHECKPOINTS = ("resume.safetensors", "search.safetensors", "work.json")

COMMITS_AT_ONCE = 5  # number of commits in a row during which a reader tries again

Content = TypeVar("Content")


@dataclass(frozen=True)
class StageFolder:
    """An unfinished stage; its files are written into `partial`, and `commit` ends the stage."""

    partial: Path
    final: Path
    work: dict[str, Any]

    def commit(self, result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Write the result and the manifest, and replace the old folder by the new folder.

        The manifest holds digests of the files that other commands read. The manifest also repeats
        `env_steps` of the result, which are the steps of the real env that the stage took, by
        purpose (see `worldmodels.runs.env_steps`).
        """
        write_json(self.partial / RESULT, dict(result))
        manifest = {
            **self.work,
            "seconds": round(seconds, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
            "env_steps": result.get("env_steps", {}),
            "outputs": _outputs(self.partial),
        }
        write_json(self.partial / MANIFEST, manifest, checksum=True)
        sync_tree(self.partial)
        place = link_target(self.final)
        old = _old(place)
        if place.exists():
            os.replace(place, old)
        os.replace(self.partial, place)
        sync(place.parent)
        # Checkpoints are removed only now, because a kill before the renames needs them.
        for name in CHECKPOINTS:
            (place / name).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        return dict(result)


def begin_work(
    final: Path, work: dict[str, Any], log: Callable[[str], object]
) -> StageFolder | None:
    """Open a folder for `work`; None if the result of this work is already complete.

    A partial folder of the same work is kept, so that the work continues from its checkpoint. A
    partial folder of other work is removed.

    Args:
        work: everything that the result depends on.
        log: function that is called with one line of text if the stage is already done, or if the
            stage is damaged and runs again.
    """
    restore(final)
    if _is_done(final, work, log):
        log(f"{final.name}: done, {final}")
        return None
    place = link_target(final)
    partial = place.parent / f".{place.name}.partial"
    if _json_or_none(partial / "work.json") != work:
        shutil.rmtree(partial, ignore_errors=True)
        write_json(partial / "work.json", work, checksum=True)
    return StageFolder(partial, final, work)


def damaged_outputs(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The files of a finished stage that are missing or have changed since they were written.

    Args:
        path: path of the manifest; FileNotFoundError is raised if this file does not exist.
    """
    os.stat(path)
    folder = path.parent
    # Manifests written before there were digests of outputs have none.
    return [
        name
        for name, digest in manifest.get("outputs", {}).items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    ]


def restore_stages(run: Path) -> None:
    """Put back the old folders of commits that a kill interrupted; only writers may call this."""
    for place in run.iterdir():
        if place.is_symlink() and not place.exists():
            restore(place)
        elif place.name.startswith(".") and place.name.endswith(".old"):
            restore(place.with_name(place.name[1 : -len(".old")]))


def restore(final: Path) -> None:
    """Put the old folder back, or remove it if the new folder exists.

    Only writers may call this function.
    """
    place = link_target(final)
    old = _old(place)
    if old.exists():
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, place)


def read_file(path: Path, read: Callable[[Path], Content]) -> Content:
    """The result of `read` for a file of a stage, even while a writer commits the stage.

    Raises: FileNotFoundError if neither the stage's folder nor the old folder holds the file, and
        any other error of `read`.
    """
    for _ in range(COMMITS_AT_ONCE):
        for place in (path, _old(path.parent.resolve()) / path.name):
            try:
                return read(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
        # The file is in neither folder, or a commit ended between the two attempts.
    return read(path)


def has_file(path: Path) -> bool:
    """Return whether this file exists in the stage's folder; during a commit, in the old folder."""
    try:
        read_file(path, os.stat)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _old(place: Path) -> Path:
    return place.parent / f".{place.name}.old"


def _outputs(folder: Path) -> dict[str, str]:
    """Digests of weights and figures, without pictures and logs, which users may delete."""
    return {
        path.name: file_digest(path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".json") and path.name not in (MANIFEST, *CHECKPOINTS)
    }


def _is_done(final: Path, work: dict[str, Any], log: Callable[[str], object]) -> bool:
    manifest = _json_or_none(final / MANIFEST)
    if not isinstance(manifest, dict):
        if (final / MANIFEST).exists():
            log(f"{final / MANIFEST} is damaged, so the stage is run again")
            (final / MANIFEST).unlink()  # nothing can be continued from it
        return False
    changed = [key for key, value in work.items() if manifest.get(key) != value]
    if changed:
        if "round" not in changed:  # a later round always replaces the stage
            log(f"{final.name}: {' and '.join(changed)} changed, so the stage is run again")
        return False
    damaged = damaged_outputs(final / MANIFEST, manifest)
    if damaged:
        log(f"{final}: {', '.join(damaged)} missing or changed, so the stage is run again")
    return not damaged


def _json_or_none(path: Path) -> Any:
    try:
        return read_json(path)
    except UserError:
        return None
