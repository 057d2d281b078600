"""A collection killed at any instant leaves whole episodes, and the next one completes it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.command import wm
from tests.counting_env import BOX_ID
from tests.process_watch import wait_until
from worldmodels.data.store import EpisodeStore

KILLS = 20
EPISODES = 600
RUN = ("--env", BOX_ID, "--preset", "tiny")


def collect_quietly(folder):
    from agents.workers import Workers
    from worldmodels.report import Report
    from worldmodels.run import Run, RunSettings
    from worldmodels.stages.collect import CollectConfig, collect

    run = Run(folder, new=RunSettings(BOX_ID, "tiny", 0))
    with Workers(1) as workers:
        collect(run, CollectConfig(EPISODES), workers=workers, report=Report(quiet=True))


@pytest.fixture(scope="module")
def processes():
    """Forks of a process that has loaded everything: each begins to collect at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "worldmodels.stages.collect", "torch.utils.tensorboard.writer"]
    )
    return context


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "episodes").iterdir()}


def written(folder):
    episodes = folder / "episodes"
    return len(list(episodes.glob("episode-*"))) if episodes.is_dir() else 0


def test_twenty_kills_leave_whole_episodes_and_the_end_is_as_if_there_were_none(
    processes, tmp_path
):
    random = np.random.default_rng(0)
    folder, counts = tmp_path / "killed", [0]
    for _ in range(KILLS):
        process = processes.Process(target=collect_quietly, args=(folder,))
        process.start()
        # Anywhere on the way, start included, and then anywhere within a write.
        more = int(random.integers(0, EPISODES / KILLS))
        expected = counts[-1] + more
        while written(folder) < expected and process.is_alive():
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.004) if more else random.uniform(0, 0.1))
        process.kill()
        process.join()
        store = EpisodeStore(folder / "episodes")
        for episode in store:
            assert episode.damage() is None
            assert episode.load().num_steps == episode.num_steps
        assert len(store) >= min(expected, EPISODES)
        counts.append(len(store))
    assert sum(0 < count < EPISODES for count in counts) > KILLS / 2
    for last in (folder, tmp_path / "undisturbed"):
        process = processes.Process(target=collect_quietly, args=(last,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert len(contents(folder)) == EPISODES
    assert contents(folder) == contents(tmp_path / "undisturbed")


def test_the_command_with_its_workers_survives_a_kill_and_loses_no_damaged_episode(tmp_path):
    options = ("--episodes", "40", "--workers", "2", *RUN)
    one_worker = (*options, "--workers", "1")  # the last one given counts
    assert wm("collect", "--run", tmp_path / "whole", *one_worker, "--quiet").code == 0
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "worldmodels", "collect", "--run", str(folder), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    episodes = folder / "episodes"
    wait_until(lambda: episodes.is_dir() and len(list(episodes.glob("episode-*"))) > 2, 60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cut, spoiled = sorted(episodes.glob("episode-*.npz"))[:2]
    cut.write_bytes(cut.read_bytes()[:200])
    content = bytearray(spoiled.read_bytes())
    content[content.index(b"frames.npy") + 150] ^= 1
    spoiled.write_bytes(content)
    Path(episodes / "notes.txt").touch()
    Path(episodes / ".episode-000099.npz.partial").touch()
    done = wm("collect", "--run", folder, *one_worker)
    assert done.code == 0, done.error
    for path, words in (
        (cut, "set aside as"),
        (spoiled, "Bad CRC-32"),
        (episodes / "notes.txt", "ignored"),
        (episodes / ".episode-000099.npz.partial", "removed"),
    ):
        lines = [line for line in done.error.splitlines() if str(path) in line]
        assert len(lines) == 1 and words in lines[0]
    expected = contents(tmp_path / "whole")
    found = contents(folder)
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) == {
        "notes.txt",
        f"{cut.name}.damaged",
        f"{spoiled.name}.damaged",
    }
