"""The program `wm` itself: its fast help, `wm info`, Ctrl-C, and the texts of errors."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import NoReturn
from unittest import mock

import pytest

from envs.processes import WorkerDiedError
from envs.vector_share import SharedMemoryError
from tests.fixtures.command import wm, wm_json


def test_help_needs_no_heavy_import() -> None:
    # Gymnasium alone is loaded, 0.1 s: importing worldmodels registers its environment there.
    code = (
        "import sys; sys.argv = ['wm', '--help']\n"
        "from worldmodels.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'matplotlib', 'Box2D', 'pygame'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train-controller" in done.stdout


@pytest.mark.parametrize("stage", ["collect", "train_vision", "train_controller", "evaluate"])
def test_a_stage_starts_without_libraries_that_few_runs_use(stage: str) -> None:
    # Together they took six seconds in every command and in every worker process.
    code = (
        f"import sys, worldmodels.stages.{stage}\n"
        "slow = {'ribs', 'cma', 'scipy.stats', 'vector_quantize_pytorch', 'sklearn'}\n"
        "sys.exit(f'imported {slow & set(sys.modules)}' if slow & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        *("run", "collect", "train-vision", "train-memory", "train-controller", "train-prior"),
        *("evaluate", "record", "sample", "surprise"),
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    done = wm(command, "--help")
    assert done.code == 0
    assert "--run" in done.output


def test_info_shows_versions_and_that_nothing_is_shadowed() -> None:
    summary = wm_json("info")
    assert summary["shadowed_imports"] == "none"
    assert {"torch", "gymnasium", "python"} <= summary["versions"].keys()
    assert "cores" in wm("info").output


def test_ctrl_c_between_stages_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("worldmodels.stages.info.install_info", interrupted)
    done = wm("info")
    assert done.code == 130
    assert done.error.strip() == "stopped: run the same command again"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), "/dev/shm"),
        (SharedMemoryError("no shared memory (/dev/shm)"), "no shared memory"),
        (WorkerDiedError("a worker process died"), "a worker process died"),
    ],
)
def test_an_error_that_names_no_file_names_none(
    monkeypatch: pytest.MonkeyPatch,
    error: PermissionError | OSError | SharedMemoryError | WorkerDiedError,
    words: str,
) -> None:
    monkeypatch.setattr("worldmodels.stages.info.install_info", mock.Mock(side_effect=error))
    done = wm("info")
    assert done.code == 2
    assert words in done.error and "None" not in done.error
    assert len(done.error.splitlines()) == 1
