"""A run folder has one writer, its readers never write, and a power cut can be repaired."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fixtures.command import wm, wm_json
from tests.fixtures.process_watch import wait_until
from tests.fixtures.tiny_run import tiny_run, write_vision
from tests.fixtures.trained_run import train_tiny_run
from worldmodels import load_agent, make_dream
from worldmodels.errors import UserError
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import LOCK, WRITER, write_lock
from worldmodels.vision import Vision


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run whose episodes, V, M, C and score took only a few steps each."""
    folder = tmp_path_factory.mktemp("folders") / "run"
    train_tiny_run(folder)
    wm_json("evaluate", "--run", folder, "--episodes", 1, "--no-baselines")
    return folder


@pytest.fixture
def run(ready: Path, tmp_path: Path) -> Path:
    """Make a copy of the run, which a test may damage."""
    return Path(shutil.copytree(ready, tmp_path / "run"))


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Return the content and the modification time of every file below a folder."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worldmodels", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_second_writer_is_refused_and_the_error_names_the_first(run: Path) -> None:
    first = started("train-vision", "--run", run, "--train-steps", 100_000, "--quiet")
    try:
        wait_until((run / WRITER).exists, 120)
        wait_until((run / ".vision.partial").exists, 120)
        for command in (
            ["train-vision", "--train-steps", 2],
            ["collect", "--episodes", 12],
            ["evaluate", "--episodes", 1],
            ["run"],
            ["train-memory"],
            ["dream-check"],
        ):
            done = wm(*command, "--run", run)
            assert (done.code, done.error.count("\n")) == (2, 1), done
            assert f"train-vision --run {run} --train-steps 100000" in done.error
            assert f"(process {first.pid})" in done.error and "wait until that" in done.error
        wm_json("info", "--run", run)  # readers are not kept waiting
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        # Its lock ended with it, and it left a checkpoint or nothing.
        assert wm("evaluate", "--run", run, "--episodes", 1, "--no-baselines").code == 0
    finally:
        first.kill()
        first.communicate()
    assert not (run / WRITER).exists()


def test_a_lock_is_taken_again_by_its_holder_and_by_nobody_else(tmp_path: Path) -> None:
    folder, refusals = tmp_path / "new" / "run", []

    def from_another_thread() -> None:
        try:
            with write_lock(folder):
                pass
        except UserError as error:
            refusals.append(str(error))

    with write_lock(folder):
        with write_lock(folder):
            assert (folder / LOCK).exists()
        thread = threading.Thread(target=from_another_thread)
        thread.start()
        thread.join()
    assert len(refusals) == 1 and f"(process {os.getpid()})" in refusals[0]
    assert not (tmp_path / "new").exists(), "nothing was written, so nothing is left"
    with write_lock(folder):
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_readers_write_nothing(run: Path, tmp_path: Path) -> None:
    # As a kill between the two renames of a commit leaves it.
    os.replace(run / "controller", run / ".controller.old")
    os.replace(run / "vision", run / ".vision.old")
    before = snapshot(run)
    assert wm_json("info", "--run", run)["controller"]["round"] == 1
    load_agent(run)
    make_dream(run).close()
    wm_json("data", "info", "--run", run)
    wm_json("record", "--run", run, "--out", tmp_path / "a.gif", "--max-steps", 4)
    wm_json("record", "--run", run, "--out", tmp_path / "b.gif", "--max-steps", 4, "--dream")
    wm_json("sample", "--run", run, "--out", tmp_path / "c.png")
    assert snapshot(run) == before


def test_a_reader_beside_a_writer_finds_a_whole_stage_every_time(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    vision = load_vision(run)
    stop = threading.Event()
    commits: list[int] = []
    failures: list[Exception] = []

    def write() -> None:
        try:
            while not stop.is_set():
                write_vision(run, vision, round_=len(commits) + 2)
                commits.append(1)
        except Exception as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            reader = Run(run.folder)
            assert reader.has("vision")
            assert reader.result("vision") == {} and reader.manifest("vision") is not None
            load_vision(reader)
    finally:
        stop.set()
        writer.join()
    assert not failures and len(commits) > 10


def load_vision(run: Run) -> Vision:
    from worldmodels.runs.checkpoint import load_checkpoint
    from worldmodels.vision import restore_vision

    path = run.weights("vision")
    return restore_vision(load_checkpoint(path, hint="none"), path)


@pytest.mark.parametrize("name", ["vision.safetensors", "result.json", "manifest.json"])
@pytest.mark.parametrize("spoil", ["emptied", "removed"])
def test_after_a_power_cut_the_stage_is_run_again(run: Path, name: str, spoil: str) -> None:
    path = run / "vision" / name
    whole = Run(run).weights("vision").read_bytes()
    path.write_bytes(b"") if spoil == "emptied" else path.unlink()
    if name == "vision.safetensors":
        done = wm("train-memory", "--run", run, "--train-steps", 3)
        assert done.code == 2 and "wm train-vision --run" in done.error
        if spoil == "emptied":
            assert "damaged" in wm_json("info", "--run", run)["vision"]
    done = wm("train-vision", "--run", run, "--train-steps", 3)
    assert done.code == 0, done
    assert path.stat().st_size and Run(run).damaged("vision") == []
    # The same settings and seed give the same weights, so that M stays what it was.
    assert Run(run).weights("vision").read_bytes() == whole
    assert wm("train-memory", "--run", run, "--train-steps", 3).code == 0
    again = wm("train-vision", "--run", run, "--train-steps", 3)
    assert "vision: done" in again.output + again.error


def test_a_linked_stage_is_written_through_its_link(run: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    shutil.move(run / "vision", scratch / "v")
    (run / "vision").symlink_to(scratch / "v")
    for steps in (4, 5):
        wm_json("train-vision", "--run", run, "--train-steps", steps)
        assert (run / "vision").is_symlink()
        manifest = Run(run).manifest("vision")
        assert manifest is not None
        assert manifest["config"]["fit"]["num_steps"] == steps
        assert {path.name for path in scratch.iterdir()} == {"v"}
    assert not list(run.glob(".vision*"))
    # A kill between the two renames leaves the link without its target.
    os.replace(scratch / "v", scratch / ".v.old")
    assert Run(run).has("vision")
    done = wm("train-vision", "--run", run, "--train-steps", 5)
    assert "vision: done" in done.output + done.error and (scratch / "v").is_dir()
    shutil.rmtree(scratch)
    done = wm("train-vision", "--run", run, "--train-steps", 6)
    assert done.code == 2 and "mount the disk" in done.error and str(scratch) in done.error


def test_settings_that_were_lost_are_written_again_by_the_command_that_the_error_names(
    run: Path,
) -> None:
    path = run / "run.json"
    before = Run(run).settings
    path.write_text(path.read_text() + "x")
    assert "delete it and run" in wm("info", "--run", run).error
    path.unlink()
    options = ("--preset", before.preset, "--seed", before.seed, "--episodes", 11)
    assert wm("collect", "--run", run, *options).code == 0
    assert Run(run).settings == before


@pytest.mark.parametrize("name", ["env_steps.json", "best.json", "rounds.json"])
@pytest.mark.parametrize(
    "text", ["3", '"x"', "[1]", "[{}]", '{"a": 3}', '{"a": {"x": 1}}', "[null]"]
)
def test_facts_of_another_form_are_one_line(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)
    command = ["info"] if name == "env_steps.json" else ["run"]
    if name == "best.json":  # compared when the newest agent is another
        command = ["train-controller", "--dream", "--train-steps", "1"]
    done = wm(*command, "--run", run)
    if done.code == 0:  # an object without what is looked for is as good as none
        assert name == "best.json" and text.startswith("{")
        return
    assert done.code == 2, done
    assert str(run / name) in done.error.splitlines()[-1] and "delete it" in done.error


def test_damaged_scores_are_measured_again(run: Path) -> None:
    (path,) = (run / "evaluation").glob("*-agent.json")
    path.write_bytes(b"")
    arguments = ("--run", run, "--episodes", 1, "--no-baselines")
    assert wm("evaluate", *arguments).code == 0 and path.stat().st_size
    (run / "collect" / "manifest.json").write_bytes(b"")
    assert wm("collect", "--run", run, "--episodes", 11).code == 0
    assert (run / "collect" / "manifest.json").stat().st_size


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, words in (
        ("file", "a file blocks this path"),
        ("file/sub", "a file blocks this path"),
        ("a\udcff", "in UTF-8"),
        ("loop", "symbolic links"),
    ):
        done = wm("collect", "--run", tmp_path / name, "--preset", "tiny", "--episodes", 1)
        assert done.code == 2 and words in done.error, done
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_more_episodes_make_a_controller_stale(run: Path) -> None:
    wm_json("collect", "--run", run, "--episodes", 12, "--max-steps", 40)
    summary = wm_json("info", "--run", run)
    assert summary["controller"]["stale"].startswith("episodes changed")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_are_for_those_whom_the_umask_lets_in(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        run = tiny_run(tmp_path / "run")
    finally:
        os.umask(before)
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}
    assert any(path.suffix == ".safetensors" for path in files)
