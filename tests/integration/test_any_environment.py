"""Environments of every kind run from `wm collect` to `wm record`, or are refused in one line."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.command import CommandResult, wm, wm_json
from tests.fixtures.odd_envs import BLIND_ID, DRAWN, ODD_ID
from tests.fixtures.whole_pipeline import TINY, whole_pipeline
from worldmodels import make_dream
from worldmodels.controller.agent import load_agent
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.run import Run


def options(arguments: Iterable[str]) -> list[str]:
    return [word for each in arguments for word in ("--env-arg", each)]


def refused(*arguments: object, words: Iterable[str]) -> CommandResult:
    """Assert that a command ends with code 2, and that its last line contains the words."""
    done = wm(*arguments)
    lines = done.error.strip().splitlines()
    assert done.code == 2, done
    assert lines[-1].startswith("wm: ") and "Traceback" not in done.error
    for word in words:
        assert word in lines[-1]
    return done


@pytest.mark.parametrize(
    "arguments",
    [
        ["observation=rgba", "declares=rgb", "action=integers", "reward=array"],
        ["observation=vector", "drawing=gray", "action=choices"],
        ["observation=floats", "action=constant"],
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (
                ["observation=first", "action=one"],
                ["observation=dict", "action=switches"],
                ["observation=gray", "action=axes"],
                ["observation=gray channel", "action=scalar"],
                ["observation=doubles first", "action=doubles"],
                ["observation=first alpha", "action=bytes"],
                ["observation=number", "drawing=rgba", "action=discrete"],
            )
        ),
    ],
    ids=" ".join,
)
def test_every_kind_runs_from_collect_to_record(tmp_path: Path, arguments: list[str]) -> None:
    run = whole_pipeline(tmp_path / "run", ODD_ID, *options(arguments))
    kwargs = dict(each.split("=") for each in arguments)
    assert run.settings.env.kwargs == kwargs == load_agent(run.folder).spec.env.kwargs
    for episode in run.store.episodes:
        rollout = episode.load()
        assert episode.meta["env_kwargs"] == kwargs
        assert rollout.frames.shape == (21, 64, 64, 3)
        first = DRAWN if "drawing" in kwargs else 0
        np.testing.assert_array_equal(rollout.frames[:, 0, 0, 0], first + np.arange(21))
        np.testing.assert_array_equal(rollout.rewards, np.arange(1, 21))
        if "action=integers" in arguments:
            np.testing.assert_array_equal(rollout.actions, np.rint(rollout.actions))
            assert load_agent(run.folder).action_space.dtype == np.int64
    dream = make_dream(run.folder, num_envs=2)
    dream.reset(seed=0)
    assert np.isfinite(dream.step(dream.action_space.sample())[1]).all()


def test_a_film_of_what_cannot_draw_shows_what_it_observes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = whole_pipeline(folder, BLIND_ID)
    wm_json("record", "--run", run, "--out", folder / "plain.gif", "--max-steps", 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "no_such_module:X-v0"], ["no module no_such_module for no_such_module:X-v0"]),
        (["--env", f"{ODD_ID[:-1]}7"], ["Odd"]),
        (["--env", ODD_ID, "--env-arg", "color=1"], ["argument 'color'", "--env-arg"]),
        (["--env", ODD_ID, "--env-arg", "drawing"], ["--env-arg name=value", '"drawing"']),
        (["--env", ODD_ID, *options(["bad_step=1"] * 2)], ["one --env-arg bad_step, got two"]),
        (["--env", ODD_ID, "--env-arg", "render_mode=human"], ["leave out --env-arg render_mode"]),
        (["--env", ODD_ID, "--env-arg", "fails=constructor"], ["RuntimeError: no license"]),
        (["--env", ODD_ID, "--env-arg", "fails=dependency"], ["pip install gamelib"]),
        (["--env", ODD_ID, "--env-arg", "fails=reset"], ["reset() raised KeyError"]),
        (["--env", ODD_ID, "--env-arg", "fails=exit at reset"], ["reset() raised SystemExit"]),
        (["--env", ""], ["Malformed environment ID"]),
        (["--env", "../odd:B-v0"], ["expected the name of a module", "../odd"]),
        (["--env-arg", "size=" + "[" * 5_000], ["a value with fewer nested brackets"]),
        (["--seed", str(2**63)], ["a seed from 0 to 2**62"]),
        (["--env", ODD_ID, "--env-arg", "action=many"], ["at most 64 combinations", "128"]),
        (["--env", ODD_ID, "--env-arg", "action=unbounded"], ["RescaleAction or ClipAction"]),
        (["--env", ODD_ID, "--env-arg", "observation=dicts"], ["left, right", "--observation-key"]),
        (["--env", ODD_ID, "--observation-key", "left"], ["an entry left", "got no Dict"]),
        (["--env", BLIND_ID, "--env-arg", "observation=vector"], ["or the render mode rgb_array"]),
        (["--env", ODD_ID, "--policy", "brownian"], ["a Brownian walk needs a Box"]),
    ],
)
def test_a_refused_environment_leaves_nothing(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    refused("collect", "--run", tmp_path / "run", *TINY, *arguments, words=words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "workers", "words"),
    [
        (["reward=nan", "bad_step=3"], 1, ["Odd-v0", "step 3", "one finite number", "nan"]),
        (["reward=complex", "bad_step=3"], 1, ["step 3", "1j"]),
        (["change=size", "bad_step=7"], 1, ["step 7", "(21, 24, 3)"]),
        (["fails=step", "bad_step=2"], 2, ["step 2", "ZeroDivisionError"]),
        (["fails=exit", "bad_step=2"], 1, ["step 2", "SystemExit"]),
        (["fails=exit", "bad_step=2"], 2, ["step 2", "SystemExit"]),
    ],
)
def test_what_goes_wrong_while_collecting_is_named_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], workers: int, words: list[str]
) -> None:
    command = ["collect", "--run", tmp_path / "run", "--preset", "tiny", "--episodes", 2]
    given = ["--env", ODD_ID, *options(arguments), "--workers", workers]
    refused(*command, *given, words=[*words, "episode of seed"])
    assert not list(tmp_path.iterdir())
    if workers == 1:  # and so the corrected command is not refused
        wm_json(*command, "--env", ODD_ID, "--workers", 1)


def test_episodes_that_are_stored_stay(tmp_path: Path) -> None:
    run = ("--run", tmp_path)
    wm_json("collect", *run, *TINY, "--env", ODD_ID, "--env-arg", "bad_step=5", "--episodes", 1)
    settings = read_json(tmp_path / "run.json")
    settings["env_kwargs"]["reward"] = "nan"
    write_json(tmp_path / "run.json", settings, checksum=True)
    refused("collect", *run, *TINY, "--episodes", 9, words=["step 5", "nan"])
    assert len(Run(tmp_path).store.episodes) == 1


def test_a_run_keeps_its_arguments_and_refuses_others(tmp_path: Path) -> None:
    run, env = ("--run", tmp_path), ("--env", ODD_ID)
    given = ("--env-arg", "observation=dicts", "--observation-key", "right")
    wm_json("collect", *run, *TINY, *env, *given, "--episodes", 1)
    wm_json("collect", *run, *TINY, *env, *given, "--episodes", 2)
    wm_json("collect", *run, "--episodes", 3)  # without these options
    other = [("--env-arg", "observation=rgb"), ("--observation-key", "left")]
    for arguments, what in zip(other, ("env arguments", "observation key"), strict=True):
        words = [f"made with {what}", "name another folder with --run"]
        refused("collect", *run, *arguments, words=words)
    summary = wm_json("info", *run)
    assert summary["env"] == f'{ODD_ID} (observation="dicts", observation key right)'


def test_episodes_with_other_arguments_are_not_taken_for_the_runs_own(tmp_path: Path) -> None:
    for name, kind in (("a", "gray"), ("b", "rgb")):
        run = ("--run", tmp_path / name, *TINY, "--env", ODD_ID, "--episodes", 3)
        wm_json("collect", *run, "--env-arg", f"observation={kind}")
    inconsistent = tmp_path / "a" / "episodes" / "episode-000003.npz"
    other = tmp_path / "b" / "episodes" / "episode-000000.npz"
    inconsistent.write_bytes(other.read_bytes())
    words = [str(inconsistent), 'Odd-v0 with {"observation": "rgb"}', "move it away"]
    refused("train-vision", "--run", tmp_path / "a", "--train-steps", 3, words=words)


def test_rewards_are_checked_by_searches_and_evaluations_too(tmp_path: Path) -> None:
    run = ("--run", tmp_path)
    wm_json("collect", *run, *TINY, "--env", ODD_ID, "--env-arg", "bad_step=5", "--episodes", 3)
    wm_json("train-vision", *run, "--train-steps", 3)
    wm_json("train-memory", *run, "--train-steps", 3)
    settings = read_json(tmp_path / "run.json")
    settings["env_kwargs"]["reward"] = "nan"
    write_json(tmp_path / "run.json", settings, checksum=True)
    for command in (
        ["train-controller", "--generations", 1, "--population", 4, "--workers", 1],
        ["elites", "drive", "--evaluations", 8, "--batch", 8, "--workers", 1],
    ):
        refused(*command, *run, words=["Odd-v0", "seed", "step 5", "one finite number"])


def test_wm_finds_modules_of_the_current_folder_in_workers_too(tmp_path: Path) -> None:
    """The test runs `wm` as a program of its own, whose path does not hold the current folder."""
    module = (Path(__file__).parents[1] / "fixtures" / "odd_envs.py").read_text()
    (tmp_path / "myenvs.py").write_text(module.replace("Odd-v0", "Mine-v0"))
    program = "import sys; sys.path.pop(0); from worldmodels.cli import main; main()"
    command = [sys.executable, "-c", program, "collect", "--env", "myenvs:Mine-v0"]
    command += ["--episodes", "9", "--preset", "tiny", "--workers", "2", "--run", "run", "--quiet"]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env=path
    )
    assert done.returncode == 0, done.stderr
    assert len(Run(tmp_path / "run").store.episodes) == 9


def test_the_traceback_of_an_environments_own_error_can_be_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WM_TRACEBACK", "1")
    given = ("--env", ODD_ID, *options(["fails=step", "bad_step=2"]), "--episodes", 1)
    done = wm("collect", "--run", tmp_path / "run", *TINY, *given)
    assert done.code == 2
    assert 'raise ZeroDivisionError("division by zero")' in done.error
    assert done.error.strip().splitlines()[-1].startswith("wm: ")
