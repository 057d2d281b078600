import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.tiny_models import rollout
from worldmodels.errors import UserError
from worldmodels.runs.provenance import file_digest, versions
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.runs.stage_folder import read_file

SETTINGS = RunSettings("Tiny-v0", "demo", 0)


@dataclass(frozen=True)
class Inner:
    levels: tuple[int, ...] = (8, 6)


@dataclass(frozen=True)
class Config:
    inner: Inner = Inner()
    rate: float = 1e-3
    patience: int | None = None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "a", new=SETTINGS)
    made.create()
    for index in range(2):
        made.store.add(index, rollout(3, seed=index), round=index + 1)
    return made


def finish_stage(
    run: Run,
    stage: str,
    config: Any = None,
    round_: int = 1,
    weights: bytes = b"weights",
    result: dict[str, Any] | None = None,
) -> dict[str, Any]:
    work = run.begin(stage, config or Config(), 0, round_)
    assert work is not None
    run_weights = work.partial / run.weights(stage).name
    run_weights.write_bytes(weights)
    return work.commit(result or {"loss": 1.5}, 2.0)


def test_nothing_is_created_before_something_is_written(tmp_path: Path) -> None:
    run = Run(tmp_path / "b")
    assert not run.exists and run.manifest("vision") is None and run.result("vision") is None
    with pytest.raises(UserError, match=r'no run in .*b: run "wm collect --run .*b" first'):
        _ = run.settings
    assert run.round == 1 and not list(tmp_path.iterdir())


def test_a_new_run_is_written_by_create_alone_and_an_old_one_keeps_its_settings(
    tmp_path: Path,
) -> None:
    new = Run(tmp_path / "b", new=SETTINGS)
    assert new.settings == SETTINGS and not new.exists
    new.create()
    assert Run(new.folder).settings == SETTINGS
    other = Run(new.folder, new=replace(SETTINGS, env_id="Other-v0", seed=9))
    other.create()
    assert other.settings == SETTINGS


@pytest.mark.parametrize("quantized", [False, True])
def test_the_kind_of_v_is_free_until_there_is_a_v(run: Run, quantized: bool) -> None:
    run.choose_kind(not quantized)
    run.choose_kind(quantized)
    path = run.weights("vision")
    path.parent.mkdir()
    path.touch()
    run.choose_kind(quantized)
    assert Run(run.folder).settings == replace(SETTINGS, quantized=quantized)
    holds, requested = ("quantized", "continuous")[:: 1 if quantized else -1]
    with pytest.raises(UserError, match=f"holds a {holds} V, but a {requested} V was requested"):
        run.choose_kind(not quantized)


def test_damaged_settings_are_named(run: Run) -> None:
    path = run.folder / "run.json"
    path.write_text('{"env_id": "x", "color": 1}')
    with pytest.raises(UserError, match=r"run\.json does not hold the settings of a run"):
        _ = run.settings
    path.write_text('{"env_id": ')
    with pytest.raises(UserError, match=r"run\.json is not readable JSON .*: restore it"):
        _ = run.settings


def test_a_stage_appears_whole_with_a_manifest(run: Run) -> None:
    work = run.begin("vision", Config(), 7, 1)
    assert work is not None
    (work.partial / "vision.safetensors").write_bytes(b"v")
    (work.partial / "resume.safetensors").write_bytes(b"r")
    assert not run.weights("vision").exists() and run.manifest("vision") is None
    assert work.commit({"loss": 0.5}, 3.14159) == {"loss": 0.5}
    assert run.weights("vision").read_bytes() == b"v"
    assert run.result("vision") == {"loss": 0.5}
    manifest = run.manifest("vision")
    assert manifest is not None
    assert manifest["config"] == {"inner": {"levels": [8, 6]}, "rate": 1e-3, "patience": None}
    assert (manifest["seed"], manifest["round"], manifest["seconds"]) == (7, 1, 3.14)
    assert manifest["inputs"] == {"episodes": run.store.digest}
    assert manifest["versions"].keys() >= {"python", "torch", "gymnasium", "worldmodels"}
    names = {entry.name for entry in (run.folder / "vision").iterdir()}
    assert names == {"vision.safetensors", "result.json", "manifest.json"}
    assert {entry.name for entry in run.folder.iterdir()} == {"run.json", "episodes", "vision"}


def test_the_same_work_is_done_once_and_any_change_is_new_work(run: Run) -> None:
    finish_stage(run, "vision")
    assert run.begin("vision", Config(), 0, 1) is None
    for config, seed, round_ in (
        (Config(rate=2e-3), 0, 1),
        (Config(inner=Inner((8, 5))), 0, 1),
        (Config(), 1, 1),
        (Config(), 0, 2),
    ):
        assert Run(run.folder).begin("vision", config, seed, round_) is not None
    assert run.result("vision") == {"loss": 1.5}  # what was there stays until a commit
    run.store.add(2, rollout(3, seed=2))
    assert run.begin("vision", Config(), 0, 1) is not None


def test_a_killed_stage_goes_on_with_the_same_work_only(run: Run) -> None:
    work = run.begin("vision", Config(), 0, 1)
    assert work is not None
    (work.partial / "resume.safetensors").write_bytes(b"half way")
    again = Run(run.folder).begin("vision", Config(), 0, 1)
    assert again is not None
    assert (again.partial / "resume.safetensors").read_bytes() == b"half way"
    other = Run(run.folder).begin("vision", Config(rate=1.0), 0, 1)
    assert other is not None
    assert not (other.partial / "resume.safetensors").exists()


def test_what_changed_since_a_stage_read_it_is_stale(run: Run) -> None:
    assert run.stale("vision") == []  # never made: nothing to be stale
    finish_stage(run, "vision")
    finish_stage(run, "memory")
    finish_stage(run, "controller")
    assert [run.stale(stage) for stage in ("vision", "memory", "controller")] == [[], [], []]
    finish_stage(run, "vision", Config(rate=1.0), weights=b"other")
    assert run.stale("memory") == ["vision"] and run.stale("controller") == ["vision"]
    run.store.add(5, rollout(2))
    assert run.stale("vision") == ["episodes"] and run.stale("memory") == ["episodes", "vision"]
    # A dream's start states, its support and the reward's scale come from the episodes.
    assert run.stale("controller") == ["episodes", "vision"]
    finish_stage(run, "memory", weights=b"other")
    assert run.stale("memory") == []
    assert run.stale("controller") == ["episodes", "vision", "memory"]
    run.weights("vision").unlink()
    assert run.stale("memory") == ["vision"]


def test_killed_between_the_renames_of_a_commit_the_old_folder_counts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_stage(run, "vision", weights=b"old", result={"loss": 1.0})
    finish_stage(run, "memory")
    rename = os.replace

    def killed(source: Path, target: Path) -> None:
        if str(source).endswith(".vision.partial"):
            raise KeyboardInterrupt("killed")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt, match="killed"):
            finish_stage(run, "vision", Config(rate=1.0), weights=b"new", result={"loss": 0.5})
    after = Run(run.folder)
    before = sorted(run.folder.rglob("*"))
    # Readers find the old folder, and write nothing.
    assert after.has("vision") and read_file(after.weights("vision"), Path.read_bytes) == b"old"
    manifest = after.manifest("vision")
    assert manifest is not None and manifest["config"]["rate"] == 1e-3
    assert after.result("vision") == {"loss": 1.0} and after.damaged("vision") == []
    assert after.stale("memory") == []
    assert sorted(run.folder.rglob("*")) == before and not (run.folder / "vision").exists()
    # A writer puts it back.
    assert after.begin("vision", Config(), 0, 1) is None
    assert after.weights("vision").read_bytes() == b"old"
    finish_stage(after, "vision", Config(rate=1.0), weights=b"new", result={"loss": 0.5})
    assert after.result("vision") == {"loss": 0.5}
    assert not [entry for entry in run.folder.iterdir() if "old" in entry.name]


def test_killed_after_the_renames_the_new_folder_counts(run: Run) -> None:
    finish_stage(run, "vision", weights=b"new")
    leftover = run.folder / ".vision.old"
    leftover.mkdir()
    (leftover / "vision.safetensors").write_bytes(b"old")
    assert read_file(run.weights("vision"), Path.read_bytes) == b"new"
    assert run.begin("vision", Config(), 0, 1) is None and not leftover.exists()


def test_rounds_and_action_repeat_are_those_of_the_episodes(run: Run) -> None:
    assert (run.round, run.action_repeat) == (2, 2)
    run.store.add(2, rollout(4, action_repeat=4))
    with pytest.raises(
        UserError, match=r"have the action repeats \[2, 4\], expected a single action repeat"
    ):
        _ = run.action_repeat


def test_a_failing_write_keeps_the_old_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((run.folder / "run.json").read_text())
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.write_json("run.json", {"what": object()})
    assert json.loads((run.folder / "run.json").read_text()) == before


def test_digest_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea"  # of FIPS 180-2's example
    assert versions()["python"].startswith("3.")
