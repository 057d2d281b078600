"""Files appear completely or not at all: they are flushed before a rename, and links are kept."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.tiny_models import rollout
from worldmodels.data.durable import replacing
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError
from worldmodels.runs.checkpoint import save_checkpoint
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record the names of the files that are flushed or renamed, in order."""
    seen, flush, rename = [], os.fsync, os.replace

    def noting_flush(descriptor: int) -> None:
        seen.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        flush(descriptor)

    def noting_rename(source: Path, target: Path) -> None:
        seen.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noting_flush)
    monkeypatch.setattr(os, "replace", noting_rename)
    return seen


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names descriptors as Linux does")
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.json", lambda path: write_json(path, {"a": 1})),
        ("a.safetensors", lambda path: save_checkpoint(path, {"w": torch.ones(2)}, {})),
        ("episode-000000.npz", lambda path: EpisodeStore(path.parent).add(0, rollout(3))),
    ],
)
def test_a_file_is_flushed_before_its_rename_and_its_folder_after_it(
    tmp_path: Path, events: list[tuple[str, str]], name: str, write: Callable[..., Any]
) -> None:
    write(tmp_path / name)
    flushed = ("flush", f".{name}.partial")
    assert events == [flushed, ("rename", name), ("flush", tmp_path.name)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names descriptors as Linux does")
def test_all_of_a_stage_is_flushed_before_it_takes_its_place(
    tmp_path: Path, events: list[tuple[str, str]]
) -> None:
    run = Run(tmp_path, new=RunSettings("Tiny-v0", "demo", 0))
    work = run.begin("vision", {}, 0, 1)
    assert work is not None
    (work.partial / "events").mkdir()
    for name in ("vision.safetensors", "vision.png", "events/log"):
        (work.partial / name).write_bytes(b"content")
    events.clear()
    work.commit({}, 1.0)
    before = events[: events.index(("rename", "vision"))]
    assert {name for kind, name in before if kind == "flush"} >= {
        *("vision.safetensors", "vision.png", "log", "events", "result.json", "manifest.json"),
        ".vision.partial",
    }
    assert events[len(before) + 1] == ("flush", tmp_path.name)


def test_what_was_there_stays_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "a.json"
    link.symlink_to(tmp_path / "disk" / "b.json")
    write_json(link, {"a": 1}, checksum=True)
    assert link.is_symlink() and read_json(tmp_path / "disk" / "b.json") == {"a": 1}
    link.unlink()
    link.symlink_to(tmp_path / "unmounted" / "b.json")
    with pytest.raises(UserError, match="mount the disk of this folder, or remove the link"):
        write_json(link, {"a": 1})
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(UserError, match="a symbolic link to itself"):
        write_json(link, {"a": 1})


def test_a_checksum_notices_an_edit_and_json_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"seed": 1, "shape": (2, 3), "loss": float("nan")}, checksum=True)
    assert read_json(path) == {"seed": 1, "shape": [2, 3], "loss": None}
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(UserError, match="damaged or edited: restore it"):
        read_json(path, "restore it")
