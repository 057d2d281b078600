"""A stage's folder, which is written under another name and then renamed as a whole.

A commit replaces the old folder of a stage by a new folder, in two renames. The first rename gives
the old folder another name. The second rename gives the new folder the name of the stage. Between
the two renames, readers still read from the old folder. If a kill comes between the renames, the
next writer puts the old folder back.
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

COMMITS_AT_ONCE = 5  # number of commits in a row after which a reader still tries again

Content = TypeVar("Content")


@dataclass(frozen=True)
class StageFolder:
    """An unfinished stage, which writes its files into `partial` and ends with `commit`."""

    partial: Path
    final: Path
    work: dict[str, Any]

    def commit(self, result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Write the result and the manifest, and replace the stage's old folder by `partial`.

        The manifest holds digests of the files that other commands read. The manifest also repeats
        the entry `env_steps` of the result, which counts the env steps of the stage for each
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
        # Checkpoints are removed only now, because they are needed after a kill before the renames.
        for name in CHECKPOINTS:
            (place / name).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        return dict(result)


def begin_work(
    final: Path, work: dict[str, Any], log: Callable[[str], object]
) -> StageFolder | None:
    """Open a partial folder for a stage; return None if the stage is already done.

    A partial folder with the same `work` is kept, so that the stage continues from the checkpoint
    in this folder. A partial folder with other `work` is removed.

    Args:
        work: everything that the result of the stage depends on, such as settings and digests of
            inputs.
        log: function that is called with one line of text if the stage is already done, or if a
            finished stage is run again.
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
    """Return the files that are missing or have changed since the stage finished.

    Args:
        path: path of the manifest; FileNotFoundError is raised if this file does not exist.
    """
    os.stat(path)
    folder = path.parent
    # Older manifests have no digests of outputs.
    return [
        name
        for name, digest in manifest.get("outputs", {}).items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    ]


def restore_stages(run: Path) -> None:
    """Restore every stage whose commit a kill has interrupted; only writers may call this."""
    for place in run.iterdir():
        if place.is_symlink() and not place.exists():
            restore(place)
        elif place.name.startswith(".") and place.name.endswith(".old"):
            restore(place.with_name(place.name[1 : -len(".old")]))


def restore(final: Path) -> None:
    """Put the old folder of a stage back, or remove the old folder if the new folder exists.

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
    """Read a file of a stage with the function `read`, even while a writer commits the stage.

    Raises: FileNotFoundError if neither the stage's folder nor the old folder holds the file. All
        other errors of `read` are raised too.
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
    """Return whether a file of a stage exists, even while a writer commits the stage."""
    try:
        read_file(path, os.stat)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _old(place: Path) -> Path:
    return place.parent / f".{place.name}.old"


def _outputs(folder: Path) -> dict[str, str]:
    """Return the digests of weights and JSON files.

    Pictures and logs are left out, because users may delete them.
    """
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
        files = ", ".join(damaged)
        log(f"{final}: files are missing or have changed ({files}), so the stage is run again")
    return not damaged


def _json_or_none(path: Path) -> Any:
    try:
        return read_json(path)
    except UserError:
        return None
