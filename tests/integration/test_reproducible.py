"""The same seed gives the same frames, weights and scores, with 1 or 2 workers and after a stop."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from tests.fixtures.command import wm, wm_json
from worldmodels.runs.provenance import file_digest

WEIGHTS = (
    "vision/vision.safetensors",
    "memory/memory.safetensors",
    "controller/agent.safetensors",
)
SEARCHES = {True: ("--dream", "--train-steps", 12), False: ("--generations", 2, "--population", 4)}


def small_run(folder: Path, workers: int, dream: bool, quantized: bool = False) -> dict[str, Any]:
    """Run every stage for seconds; return the digests of its files, and the returns."""
    run = ("--run", folder)
    kind = ["--quantized"] if quantized else []
    work = ("--workers", workers)
    wm_json("collect", *run, "--preset", "tiny", "--episodes", 12, "--max-steps", 40, *work)
    wm_json("train-vision", *run, "--train-steps", 20, *kind)
    wm_json("train-memory", *run, "--train-steps", 10)
    wm_json("train-controller", *run, *SEARCHES[dream], *work)
    scores = wm_json("evaluate", *run, "--episodes", 2, "--no-baselines", *work)
    episodes = sorted((folder / "episodes").iterdir())
    assert len(episodes) == 12
    return {
        **{path.name: file_digest(path) for path in episodes},
        **{name: file_digest(folder / name) for name in WEIGHTS},
        "returns": scores["rows"][0]["returns"],
    }


@pytest.mark.parametrize(("dream", "quantized"), [(True, True), (False, False)])
def test_one_and_two_workers_and_a_second_time_agree(
    tmp_path: Path, dream: bool, quantized: bool
) -> None:
    first = small_run(tmp_path / "a", 1, dream, quantized)
    assert small_run(tmp_path / "b", 2, dream, quantized) == first
    assert small_run(tmp_path / "c", 1, dream, quantized) == first


def test_another_seed_gives_other_episodes(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        options = ("--seed", seed, "--episodes", 1, "--max-steps", 20, "--preset", "tiny")
        wm_json("collect", "--run", folder, *options)
    name = "episodes/episode-000000.npz"
    assert file_digest(tmp_path / "0" / name) != file_digest(tmp_path / "1" / name)


def test_a_collection_that_was_cut_off_goes_on_with_the_same_episodes(tmp_path: Path) -> None:
    options = ("--max-steps", 20, "--preset", "tiny", "--episodes")
    wm_json("collect", "--run", tmp_path / "whole", *options, 11)
    wm_json("collect", "--run", tmp_path / "parts", *options, 3)
    (tmp_path / "parts" / "episodes" / "episode-000001.npz").unlink()
    wm_json("collect", "--run", tmp_path / "parts", *options, 11)
    digests = [
        [file_digest(path) for path in sorted((tmp_path / name / "episodes").iterdir())]
        for name in ("whole", "parts")
    ]
    assert len(digests[0]) == 11
    assert digests[0] == digests[1]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_training_that_was_stopped_ends_with_the_same_weights(
    tmp_path: Path, end: Signals
) -> None:
    for name in ("whole", "stopped"):
        options = ("--episodes", 10, "--max-steps", 40, "--preset", "tiny")
        wm_json("collect", "--run", tmp_path / name, *options)
    train = ("train-vision", "--train-steps", 120, "--run")
    wm_json(*train, tmp_path / "whole")
    folder = tmp_path / "stopped"
    command = [sys.executable, "-m", "worldmodels", *map(str, train), str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    checkpoint = folder / ".vision.partial" / "resume.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(end)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (130 if end == signal.SIGINT else -signal.SIGKILL)
    assert not (folder / "vision").exists()
    if end == signal.SIGINT:
        assert error.strip().splitlines()[-1] == "stopped: run the same command again"
    assert wm(*train, folder, "--quiet").code == 0
    digests = [file_digest(tmp_path / name / WEIGHTS[0]) for name in ("whole", "stopped")]
    assert digests[0] == digests[1]


def test_rounds_collect_with_the_agent_and_train_on(tmp_path: Path) -> None:
    run = ("--run", tmp_path / "run")
    wm_json("collect", *run, "--preset", "tiny", "--episodes", 2, "--max-steps", 20)
    result = wm_json("run", *run, "--rounds", 2, "--workers", 2)
    assert len(result["rows"]) == 6
    summary = wm_json("info", *run)
    assert summary["round"] == 2
    assert summary["episodes"] > 2 + 22  # more than those of the first round
    # C has one more round: fine-tuning in the real game.
    assert [summary[stage]["round"] for stage in ("vision", "memory", "controller")] == [2, 2, 3]
    assert "stale" not in str(summary)
