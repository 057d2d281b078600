"""`--json` prints one JSON document, whatever the result contains and the environment prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.command import parsed, wm, wm_json
from tests.fixtures.printing_env import PRINTING_ID
from tests.fixtures.tiny_run import tiny_run

TIMES = ("at import", "in __init__", "in reset", "in step", "at exit")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_an_environment_prints_is_not_on_stdout(tmp_path: Path, workers: int) -> None:
    command = [
        "collect",
        "--run",
        str(tmp_path),
        "--env",
        PRINTING_ID,
        "--policy",
        "random",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "worldmodels", *command, "--episodes=2", f"--workers={workers}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parsed(done.stdout)["episodes"] == 2
    for time in TIMES:
        assert f"written {time}" in done.stderr
        # A worker is killed, so the text in its Python buffer is lost.
        assert workers == 2 or f"printed {time}" in done.stderr


def test_a_caller_in_this_process_has_its_stdout_back(tmp_path: Path) -> None:
    stdout = sys.stdout
    done = wm(
        *("collect", "--run", tmp_path, "--env", PRINTING_ID, "--policy", "random", "--json"),
        *("--episodes", 2, "--workers", 1, "--quiet"),
    )
    assert sys.stdout is stdout
    assert parsed(done.output)["episodes"] == 2
    assert "printed in step" in done.error


def test_numbers_that_json_does_not_have_are_null(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": (float("-inf"), 2, "x")}}
    monkeypatch.setattr("worldmodels.stages.info.install_info", lambda: summary)
    assert wm_json("info") == {"a": None, "b": [1.5, None], "c": {"d": [None, 2, "x"]}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    tiny_run(folder / "codes", "codes")
    tiny_run(folder / "latents")
    wm_json(
        *(
            "train-controller",
            "--run",
            folder / "latents",
            "--dream",
            "--workers",
            1,
            "--search",
            "cmaes",
        ),
        *("--generations", 1, "--population", 4, "--set", "cmaes.episodes=1", "--horizon", 4),
    )
    return folder


COMMANDS = {
    "data info": ["--run", "latents", "--verify"],
    "info": [],
    "info of a run": ["--run", "latents"],
    "evaluate": ["--run", "latents", "--episodes", "1", "--workers", "1"],
    "dream": ["--run", "latents", "--horizon", "2", "--out", "dream.gif"],
    "record": ["--run", "latents", "--max-steps", "3", "--out", "game.gif"],
    "train-memory": ["--run", "latents", "--train-steps", "2", "--device", "cpu"],
    "evaluate-memory": ["--run", "latents", "--horizon", "2", "--starts", "2", "--samples", "1"],
    "train-prior": ["--run", "codes", "--train-steps", "2", "--device", "cpu"],
    "sample": ["--run", "latents", "--count", "2", "--out", "sample.png"],
    "bbvi": ["--only", "beta-bernoulli", "--train-steps", "3", "--out", "bbvi"],
    "collect": ["--run", "new", "--preset", "tiny", "--episodes", "2", "--workers", "1"],
    "train-vision": ["--run", "new", "--train-steps", "2", "--device", "cpu"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_print_one_document(
    runs: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(runs)
    words = name.removesuffix(" of a run").split()
    assert wm_json(*words, *COMMANDS[name])


def test_one_episode_has_no_spread_and_info_shows_it(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    row, *_ = wm_json("evaluate", *COMMANDS["evaluate"])["rows"]
    assert row["std"] is None
    assert wm("info", "--run", "latents").code == 0


@pytest.mark.parametrize(
    "command",
    [
        ["info", "--run", "nowhere"],
        ["collect", "--env", "Nowhere-v0"],
        ["evaluate", "--episodes=x"],
    ],
)
def test_an_error_leaves_stdout_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = wm(*command, "--json")
    assert (done.code, done.output) == (2, "")
    assert len(done.error.splitlines()) == 1
