"""Bad input gives one clear line and exit code 2, and leaves all files whole."""

import dataclasses
import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tests.fixtures.command import CommandResult, wm, wm_json
from tests.fixtures.counting_env import BOX_ID
from tests.fixtures.trained_run import train_tiny_run
from worldmodels.runs.run import Run
from worldmodels.stages import collect


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run whose episodes, V, M and C took only a few steps each."""
    folder = tmp_path_factory.mktemp("bad") / "run"
    train_tiny_run(folder)
    return folder


@pytest.fixture
def run(ready: Path, tmp_path: Path) -> Path:
    """Make a copy of the run, which a test may damage."""
    return Path(shutil.copytree(ready, tmp_path / "run"))


def files(folder: Path) -> dict[Path, bytes]:
    """Return the bytes of every file in a folder, except TensorBoard's logs, which only grow."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "events"
    }


def refused(*arguments: object, expected: Iterable[str]) -> CommandResult:
    """Assert that a command ends with code 2 and one line that contains all `expected` texts."""
    done = wm(*arguments)
    lines = done.error.strip().splitlines()
    assert done.code == 2, done
    assert lines[-1].startswith("wm: ")
    assert "Traceback" not in done.error
    for words in expected:
        assert words in lines[-1]
    return done


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["train-vision"], "wm collect --run"),
        (["train-memory"], "wm collect --run"),
        (["train-controller"], "wm collect --run"),
        (["evaluate"], "wm collect --run"),
        (["record"], "wm collect --run"),
        (["info"], "wm collect --run"),
        (["play", "--dream"], "wm train-controller --run"),
    ],
)
def test_a_run_that_is_not_there(tmp_path: Path, command: list[str], hint: str) -> None:
    refused(*command, "--run", tmp_path / "none", expected=[str(tmp_path / "none"), hint])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("missing", "command", "hint"),
    [
        ("vision", ["train-memory"], "wm train-vision --run"),
        ("vision", ["train-controller", "--dream"], "wm train-vision --run"),
        ("memory", ["train-controller", "--dream"], "wm train-memory --run"),
        ("controller", ["evaluate", "--episodes", 1], "wm train-controller --run"),
        ("controller", ["record"], "wm train-controller --run"),
        ("controller", ["collect", "--policy", "agent", "--episodes", 12], "wm train-controller"),
    ],
)
def test_a_missing_earlier_stage(
    run: Path, missing: str, command: list[str | int], hint: str
) -> None:
    shutil.rmtree(run / missing)
    (run / "best.safetensors").unlink()
    before = files(run)
    refused(*command, "--run", run, expected=[str(run), hint])
    assert files(run) == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["run", "--preset", "huge"], ["demo, cpu, study, paper, gpu", '"huge"']),
        (["run", "--rounds", "0"], ["at least 1 round", "0"]),
        (["run", "--seed", "-1"], ["seed", "-1"]),
        (["collect", "--episodes", "-3"], ["episodes must be at least 1", "-3"]),
        (["collect", "--max-steps", "0"], ["max_episode_steps must be at least 1", "0"]),
        (["collect", "--workers", "0"], ["at least 1 worker", "0"]),
        (["collect", "--policy", "clever"], ["exploring, random, brownian, agent", '"clever"']),
        (["collect", "--episodes", "many"], ["--episodes"]),
        (["collect", "--episodes", "9999999999"], ["at most 1,000,000 episodes"]),
        (["collect", "--env", "NoSuchEnv-v0"], ["NoSuchEnv"]),
        (["collect", "--env", "MountainCarContinuous-v9"], ["MountainCarContinuous"]),
        (["evaluate", "--split", "training"], ["validation", "test"]),
        (["dance"], ["No such command"]),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, options: list[str], expected: list[str]
) -> None:
    command = [*options] if options == ["dance"] else [*options, "--run", tmp_path / "new"]
    refused(*command, expected=expected)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["evaluate", "--episodes", "0"], ["expected 1 to 500,000 episodes, got 0"]),
        (["evaluate", "--perturbation", "fog"], ["color, bars, blob", '"fog"']),
        (["evaluate", "--agent", "nowhere"], ["nowhere", "wm train-controller --run"]),
        (["record", "--out", "drive.avi"], [".mp4 or .gif", "drive.avi"]),
        (["record", "--out", "nowhere/drive.mp4"], ["no folder nowhere"]),
        (["record", "--dream", "--side-by-side"], ["one of --dream and --side-by-side"]),
        (["record", "--max-steps", "0"], ["max_steps must be at least 1"]),
        (["record", "--episode", "-1"], ["the number of a validation episode", "-1"]),
        (["record", "--dream", "--temperature", "-1"], ["a finite temperature of at", "-1"]),
        (["train-vision", "--train-steps", "0"], ["num_steps must be at least 1"]),
        (["train-controller", "--population", "1"], ["population must be at least 4"]),
        (["train-controller", "--max-minutes", "0"], ["minutes must be above 0"]),
        (["train-controller", "--hidden", "-1"], ["hidden must be at least 0"]),
        (["train-controller", "--controller-inputs", "h"], ['inputs must be "zh" or "z"', '"h"']),
        (["train-controller", "--search", "chance"], ["cmaes, gradient", '"chance"']),
        (["train-controller", "--search", "gradient"], ["add --dream"]),
        (["train-controller", "--init-from", "none.safetensors"], ["no file none.safetensors"]),
        (["dream-check", "--agents", "1"], ["agents must be at least 2"]),
        (["train-vision", "--device", "tpu"], ["a device among auto, cpu", '"tpu"']),
        (["collect", "--env", "CartPole-v1"], ["made with env worldmodels/CarRacing-v3"]),
        (["run", "--preset", "demo"], ["made with preset tiny"]),
    ],
)
def test_options_that_do_not_fit_the_run(
    run: Path, options: list[str], expected: list[str]
) -> None:
    before = files(run)
    refused(*options, "--run", run, expected=expected)
    assert files(run) == before


IN_DREAM = ["train-controller", "--dream"]


@pytest.mark.parametrize(
    ("command", "ignored"),
    [
        *(
            (IN_DREAM, option)
            for option in (
                ["--generations", 1],
                ["--max-minutes", 1],
                ["--population", 4],
                ["--set", "cmaes.sigma0=0.1"],
                ["--set", "cmaes.episodes=2"],
                ["--covariance", "full"],
                ["--covariance", "diagonal"],
                ["--set", "cmaes.last_layer=true"],
            )
        ),
        ([*IN_DREAM, "--search", "cmaes"], ["--train-steps", 3]),
        ([*IN_DREAM, "--search", "cmaes"], ["--set", "ppo.learner.horizon=3"]),
        (IN_DREAM, ["--set", "ppo.learner.horizon=3"]),
        (["train-controller"], ["--train-steps", 3]),
        (["train-controller"], ["--device", "cuda"]),
        (["play", "--dream"], ["--env", "CartPole-v1"]),
        (["train-vision"], ["--estimator", "score"]),
        (["record"], ["--temperature", 1.5]),
    ],
)
def test_an_option_that_would_have_no_effect(
    run: Path, command: list[str], ignored: list[str | float]
) -> None:
    before = files(run)
    refused(*command, *ignored, "--run", run, expected=[str(ignored[0]), "add"])
    assert files(run) == before


@pytest.mark.parametrize(
    ("options", "requested", "found"),
    [
        (["--hidden", 3], "got 3", "--hidden must be 64"),
        (["--controller-inputs", "z"], "got z", "--controller-inputs must be zh"),
        (["--paper"], "got 0", "--hidden must be 64"),
        (["--paper", "--hidden", 64], "got paper", "action_map must be pedal"),
    ],
)
def test_a_controller_to_start_from_is_not_changed_by_options(
    run: Path, options: list[str | int], requested: str, found: str
) -> None:
    before = files(run)
    words = [requested, found, "leave"]
    refused("train-controller", "--init-from", run, *options, "--run", run, expected=words)
    assert files(run) == before


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("vision/vision.safetensors", ["train-memory"]),
        ("memory/memory.safetensors", ["train-controller", "--dream"]),
        ("best.safetensors", ["evaluate", "--episodes", 1]),
        ("episodes/episode-000003.npz", ["train-vision", "--train-steps", 4]),
        ("run.json", ["info"]),
        ("vision/manifest.json", ["info"]),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_an_unreadable_artifact(
    run: Path, file: str, command: list[str | int], damage: str
) -> None:
    path = run / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\x00 garbage")
    before = files(run)
    refused(*command, "--run", run, expected=[str(path)])
    assert files(run) == before


def test_a_memory_trained_on_another_vision(run: Path) -> None:
    wm_json("train-vision", "--run", run, "--train-steps", 4)
    before = files(run)
    refused("train-controller", "--run", run, expected=["trained on another V", "wm train-memory"])
    assert files(run) == before
    assert "vision changed" in str(wm_json("info", "--run", run)["memory"]["stale"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        refused("collect", "--run", tmp_path / "run", expected=["no permission", str(tmp_path)])
    finally:
        tmp_path.chmod(0o700)


def test_no_permission_and_a_full_disk_are_one_line_and_lose_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(run)
    for number, words in ((errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission")):

        def fail(*_: object, number: int = number) -> NoReturn:
            raise OSError(number, os.strerror(number), str(run / "episodes" / "x"))

        monkeypatch.setattr(Path, "write_bytes", fail)
        refused("collect", "--run", run, "--episodes", 13, expected=[words, str(run)])
        assert files(run) == before


def test_too_little_disk_is_said_before_anything_is_played(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(run)
    usage = shutil.disk_usage(run)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    refused("collect", "--run", run, "--episodes", 500, expected=["1.0 kB free", "make room"])
    assert files(run) == before


def test_a_collection_too_large_for_the_disk_is_refused_without_a_list_of_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(*numbers: int) -> range:
        assert max(numbers) < 1000, numbers
        return range(*numbers)

    monkeypatch.setattr(collect, "range", counted, raising=False)
    usage = shutil.disk_usage(run)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    refused("collect", "--run", run, "--episodes", 999_999, expected=["1.0 kB free", "make room"])


def test_an_episode_of_another_env_is_named_by_every_stage(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    wm_json("collect", "--run", other, *("--env", BOX_ID, "--preset", "tiny", "--episodes", 1))
    inconsistent = run / "episodes" / "episode-000012.npz"
    shutil.copy(other / "episodes" / "episode-000000.npz", inconsistent)
    before = files(run)
    for command in (
        ["collect"],
        ["train-vision", "--train-steps", 4],
        ["train-memory", "--train-steps", 4],
    ):
        words = [str(inconsistent), "CountingBox-v0 with 2", "CarRacing-v3 with 3", "move it away"]
        refused(*command, "--run", run, expected=words)
    assert files(run) == before


def test_an_empty_run_cannot_train(tmp_path: Path) -> None:
    wm_json("collect", "--run", tmp_path, "--preset", "tiny", "--episodes", 1, "--max-steps", 5)
    refused("train-vision", "--run", tmp_path, expected=["at least 2", "got 1:", "wm collect"])


@pytest.mark.parametrize("name", ["rewards", "actions"])
def test_episodes_with_numbers_that_are_none_leave_the_memory_there_was(
    run: Path, name: str
) -> None:
    episode = Run(run).store.episodes[3]
    rollout = episode.load()
    numbers = np.full_like(getattr(rollout, name), np.nan)
    episode.path.unlink()
    # As an earlier version wrote it: today no env's NaN gets so far.
    spoilt = dataclasses.replace(rollout, **{name: numbers})
    Run(run).store.add(episode.index, spoilt, episode_return=1.0)
    before = files(run / "memory")
    expected = [str(episode.path), f"{name} hold NaN or infinity", "wm collect"]
    refused("train-memory", "--run", run, "--train-steps", 3, expected=expected)
    assert files(run / "memory") == before
