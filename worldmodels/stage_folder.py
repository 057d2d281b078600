"""A stage's folder: worked on beside its place, and put there whole or not at all."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodels.json_files import read_json, write_json
from worldmodels.provenance import versions


@dataclass(frozen=True)
class StageFolder:
    """A stage under way: write into `partial`, then `commit`."""

    partial: Path
    final: Path
    work: dict[str, Any]

    def commit(self, result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Add result and manifest and put the folder in place of the old one.

        The manifest repeats the result's `env_steps`: steps of the real env that the stage took, by
        purpose (see `worldmodels.env_steps`).
        """
        manifest = {
            **self.work,
            "seconds": round(seconds, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
            "env_steps": result.get("env_steps", {}),
        }
        facts = {"result.json": dict(result), "manifest.json": manifest}
        for name, content in facts.items():
            (self.partial / name).write_text(json.dumps(content, indent=2) + "\n")
        old = _old(self.final.parent, self.final.name)
        if self.final.exists():
            os.replace(self.final, old)
        os.replace(self.partial, self.final)
        # Only now: a kill before would have cost the checkpoint.
        for name in ("resume.safetensors", "search.safetensors", "work.json"):
            (self.final / name).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        return dict(result)


def begin_work(final: Path, work: dict[str, Any]) -> StageFolder | None:
    """Open a folder for `work`, what a result depends on; None where it is there and of this work.

    A partial folder of the same work is kept, so that it goes on from its checkpoint; one of other
    work is removed.
    """
    restore(final.parent, final.name)
    manifest = read_json(final / "manifest.json")
    if manifest is not None and all(manifest.get(key) == value for key, value in work.items()):
        return None
    partial = final.parent / f".{final.name}.partial"
    if read_json(partial / "work.json") != work:
        shutil.rmtree(partial, ignore_errors=True)
        write_json(partial / "work.json", work)
    return StageFolder(partial, final, work)


def _old(folder: Path, stage: str) -> Path:
    return folder / f".{stage}.old"


def restore(folder: Path, stage: str) -> None:
    """After a kill between the two renames of a commit, the old folder is the one that counts."""
    old = _old(folder, stage)
    if old.exists():
        if (folder / stage).exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, folder / stage)
