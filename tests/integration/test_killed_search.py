"""A search gives the same result even if the search, or one of its workers, is killed."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.workers import Workers
from tests.fixtures.process_watch import wait_until
from tests.fixtures.tiny_run import tiny_run
from worldmodels.controller import cmaes as cmaes
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.progress import Report
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.stages.train_controller import ControllerStageConfig, train_controller

KILLS = int(os.environ.get("KILLS", "4"))
SEARCH = CMAESConfig(
    generations=8, population=4, episodes=2, horizon=20, validate_every=3, covariance="diagonal"
)
CONFIG = ControllerStageConfig(eval_episodes=1, selection_episodes=1, cmaes=SEARCH)


def search(folder: Path, dream: bool) -> None:
    cmaes.CHECKPOINT_SECONDS = 0.0  # so that every kill happens at another state
    with Workers(1) as workers:
        train_controller(
            Run(folder), replace(CONFIG, dream=dream), workers=workers, report=Report(quiet=True)
        )


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Fork from a process that has imported everything, so that each fork searches at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch.utils.tensorboard.writer"])
    return context


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run of CarRacing that has V and M, but no C."""
    return tiny_run(tmp_path_factory.mktemp("runs") / "made").folder


def fitness_history(folder: Path) -> list[list[Any]]:
    """Return the history without times: fitness, step size, real scores and env steps."""
    history = json.loads((folder / "controller" / "result.json").read_text())["history"]
    assert [entry["generation"] for entry in history] == list(range(1, SEARCH.generations + 1))
    names = ("best", "mean", "std", "sigma", "real_score", "steps")
    return [[entry.get(name) for name in names] for entry in history]


def outcome(folder: Path) -> tuple[list[list[Any]], list[str]]:
    """Return the history of a search, and the digests of its two agent files."""
    agents = [folder / "controller" / "agent.safetensors", folder / "best.safetensors"]
    return fitness_history(folder), [file_digest(path) for path in agents]


@pytest.mark.parametrize("dream", [True, False], ids=["dream", "real"])
def test_a_search_killed_again_and_again_ends_the_same(
    processes: ForkServerContext, made: Path, tmp_path: Path, dream: bool
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(made, folder)
    started = time.monotonic()
    undisturbed = processes.Process(target=search, args=(whole, dream))
    undisturbed.start()
    undisturbed.join()
    seconds = time.monotonic() - started
    random, cut_short = np.random.default_rng(0), 0
    for _ in range(KILLS):
        process = processes.Process(target=search, args=(killed, dream))
        process.start()
        process.join(random.uniform(0.3, 1.2) * seconds / KILLS)
        cut_short += process.is_alive()
        process.kill()
        process.join()
    assert cut_short > KILLS / 2
    last = processes.Process(target=search, args=(killed, dream))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert outcome(killed) == outcome(whole)
    assert not list(killed.glob(".*")), "a finished search leaves nothing half done"


COMMAND = """
import sys
from pathlib import Path
from agents.workers import Workers
from tests.integration.test_killed_search import CONFIG
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.stages.train_controller import train_controller

if __name__ == "__main__":
    report = Report()
    with Workers(2, log=report.log) as workers:
        print(*[process for process in workers.map(sys.intern, ["ready"])], flush=True)
        for process in workers.process_ids:
            print(process, flush=True)
        train_controller(Run(Path(sys.argv[1])), CONFIG, workers=workers, report=report)
"""


def test_a_generation_ends_the_same_when_a_worker_is_killed_in_it(
    processes: ForkServerContext, made: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(made, folder)
    undisturbed = processes.Process(target=search, args=(whole, False))
    undisturbed.start()
    script = tmp_path / "two_workers.py"
    script.write_text(COMMAND)
    process = subprocess.Popen(
        [sys.executable, script, killed],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    worker = int(process.stdout.readline())
    wait_until(lambda: (killed / ".controller.partial" / "events").is_dir(), 60)
    os.kill(worker, signal.SIGKILL)
    _, error_output = process.communicate(timeout=120)
    undisturbed.join()
    assert process.returncode == 0
    assert "its work is repeated in a new process" in error_output
    assert outcome(killed) == outcome(whole)
