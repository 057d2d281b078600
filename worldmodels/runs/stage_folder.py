"""A stage's folder: worked on beside its place, and put there whole or not at all.

A commit renames the old folder away and the new one into its place. Between these two renames, and
for ever after a kill between them, the old folder is the one that counts: readers look there, and
the next writer puts it back.
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
# What a stage under way needs to go on after a kill.
CHECKPOINTS = ("resume.safetensors", "search.safetensors", "work.json")

COMMITS_AT_ONCE = 5  # that a reader may meet one after the other

Content = TypeVar("Content")


@dataclass(frozen=True)
class StageFolder:
    """A stage under way: write into `partial`, then `commit`."""

    partial: Path
    final: Path
    work: dict[str, Any]

    def commit(self, result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Add result and manifest and put the folder in place of the old one.

        The manifest holds digests of the files that other commands read. It repeats the result's
        `env_steps`: steps of the real env that the stage took, by purpose (see
        `worldmodels.runs.env_steps`).
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
        # Only now: a kill before would have cost the checkpoint.
        for name in CHECKPOINTS:
            (place / name).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        return dict(result)


def begin_work(
    final: Path, work: dict[str, Any], log: Callable[[str], object]
) -> StageFolder | None:
    """Open a folder for `work`, what a result depends on; None if its whole result is there.

    A partial folder of the same work is kept, so that it goes on from its checkpoint; one of other
    work is removed.

    Args:
        log: called with a line if the stage is done, or if it is damaged and made again.
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
    """Files of a finished stage that are missing or are not what the stage wrote.

    Args:
        path: of the manifest; FileNotFoundError is raised if it is not there.
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
    """Put back what a kill between the two renames of a commit left; for writers alone."""
    for place in run.iterdir():
        if place.is_symlink() and not place.exists():
            restore(place)
        elif place.name.startswith(".") and place.name.endswith(".old"):
            restore(place.with_name(place.name[1 : -len(".old")]))


def restore(final: Path) -> None:
    """Put the old folder back, or remove it if the new one is in place; for writers alone."""
    place = link_target(final)
    old = _old(place)
    if old.exists():
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, place)


def read_file(path: Path, read: Callable[[Path], Content]) -> Content:
    """What `read` returns for a file of a stage, whatever a writer does meanwhile.

    Raises: what `read` raises; FileNotFoundError if the file is in neither folder.
    """
    for _ in range(COMMITS_AT_ONCE):
        for place in (path, _old(path.parent.resolve()) / path.name):
            try:
                return read(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
        # It is in neither, or a commit ended between the two.
    return read(path)


def has_file(path: Path) -> bool:
    """Whether a stage has this file, in its folder or, amid a commit, in the old one."""
    try:
        read_file(path, os.stat)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _old(place: Path) -> Path:
    return place.parent / f".{place.name}.old"


def _outputs(folder: Path) -> dict[str, str]:
    """Digests of weights and figures. Pictures and logs are for people, and may be thrown away."""
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
            (final / MANIFEST).unlink()  # nobody can go on from it
        return False
    if any(manifest.get(key) != value for key, value in work.items()):
        return False
    damaged = damaged_outputs(final / MANIFEST, manifest)
    if damaged:
        log(f"{final}: {', '.join(damaged)} not as the stage wrote it, so the stage is run again")
    return not damaged


def _json_or_none(path: Path) -> Any:
    try:
        return read_json(path)
    except UserError:
        return None
