"""A collection that is killed leaves only whole episodes; the next collection adds the rest."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest

from agents.workers import Workers
from tests.fixtures.command import wm
from tests.fixtures.counting_env import BOX_ID
from tests.fixtures.process_watch import wait_until
from tests.fixtures.tiny_models import rollout
from worldmodels.data.store import EpisodeStore
from worldmodels.progress import Report
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.collect import CollectConfig, collect, replacements

KILLS = 20
EPISODES = 600
RUN = ("--env", BOX_ID, "--preset", "tiny")


def collect_quietly(folder: Path) -> None:
    run = Run(folder, new=RunSettings(BOX_ID, "tiny", 0))
    with Workers(1) as workers:
        collect(run, CollectConfig(EPISODES), workers=workers, report=Report(quiet=True))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Fork from a process that has imported everything, so that each fork collects at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "worldmodels.stages.collect", "torch.utils.tensorboard.writer"]
    )
    return context


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "episodes").iterdir()}


def written(folder: Path) -> int:
    episodes = folder / "episodes"
    return len(list(episodes.glob("episode-*"))) if episodes.is_dir() else 0


def test_twenty_kills_leave_whole_episodes_and_the_end_is_as_if_there_were_none(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    folder, counts = tmp_path / "killed", [0]
    for _ in range(KILLS):
        process = processes.Process(target=collect_quietly, args=(folder,))
        process.start()
        # Anywhere on the way, start included, and then anywhere within a write.
        more = int(random.integers(0, EPISODES // KILLS))
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


def test_the_command_with_its_workers_survives_a_kill_and_loses_no_damaged_episode(
    tmp_path: Path,
) -> None:
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
        (cut, "renamed to"),
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


def spoil(path: Path) -> None:
    """Change a byte of the frames, so that the metadata of the episode stay readable."""
    content = bytearray(path.read_bytes())
    content[content.index(b"frames.npy") + 150] ^= 1
    path.write_bytes(content)


def test_damaged_episodes_are_played_again_as_they_were_whatever_is_asked_now(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, new=RunSettings(BOX_ID, "tiny", 0))
    parts = [(11, "exploring", 1, None), (25, "random", 2, 4), (30, "brownian", 3, None)]
    for episodes, policy, round_, max_steps in parts:
        config = CollectConfig(episodes, policy=policy, max_episode_steps=max_steps)
        with Workers(1) as workers:
            collect(run, config, workers=workers, report=Report(quiet=True), round_=round_)
    before = contents(tmp_path)
    folder = tmp_path / "episodes"
    for index in (0, 10, 12, 20, 29):
        (folder / f"episode-{index:06d}.npz").write_bytes(b"garbage")
    for index in (1, 11, 25):  # 11 and 25 have a neighbour of another round
        spoil(folder / f"episode-{index:06d}.npz")
    # Set aside by a collection that was killed before it played it again.
    os.replace(folder / "episode-000021.npz", folder / "episode-000021.npz.damaged")
    done = wm("collect", "--run", tmp_path, "--episodes", 5, "--workers", 1)
    assert done.code == 0, done.error
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    for index, words in (
        (10, "round 1 with the exploring policy"),
        (11, "round 2 with the random policy"),
        (29, "round 3 with the brownian policy"),
    ):
        assert f"episode {index}: played again in {words}" in done.error


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (None, "with the exploring policy, because the agent of this episode is gone"),
        (1, "with the agent policy"),
        (3, "with the agent of round 3, because the episode's agent may be gone"),
    ],
)
def test_what_is_not_played_as_it_was_says_so(
    tmp_path: Path, trained: int | None, words: str
) -> None:
    run = Run(tmp_path, new=RunSettings(BOX_ID, "tiny", 0))
    run.store.add(10, rollout(3, policy="noisy agent", action_repeat=2), round=2)
    run.store.add(11, rollout(3, policy="noisy agent", action_repeat=2), round=2)
    spoil(run.store.folder / "episode-000011.npz")
    run.store.repair(lambda line: None)
    if trained is not None:
        summary = {"round": trained, "config": {}, "seed": 0, "inputs": {}, "seconds": 1.0}
        run.write_json("controller/manifest.json", summary)
        run.weights("controller").touch()
    messages: list[str] = []
    config = CollectConfig(5, action_repeat=7)
    ((again, number),) = replacements(run, config, 4, messages.append)
    assert messages == [f"episode 11: played again in round 2 {words}"]
    expected = ("exploring", 7) if trained is None else ("agent", 2)
    assert (again.policy, again.action_repeat, number) == (*expected, 2)
    assert again.max_episode_steps == 3  # the others of its round were cut there


def test_a_collection_killed_after_its_last_episode_is_summed_up_later(tmp_path: Path) -> None:
    command = ("collect", "--run", tmp_path, *RUN, "--episodes", 12, "--workers", 1)
    assert wm(*command).code == 0
    files = ("result.json", "collect.png", "manifest.json")
    paths = [tmp_path / "collect" / name for name in files]
    before = [path.read_bytes() for path in paths]
    manifest = read_json(paths[2])
    stale = {**manifest, "output": "of fewer episodes"}
    for content in (stale, None):
        for path in paths:
            path.unlink()
        if content is not None:
            write_json(paths[2], content, checksum=True)
        done = wm(*command)
        assert done.code == 0 and "collect: done" in done.error
        assert [path.read_bytes() for path in paths[:2]] == before[:2]
        now = read_json(paths[2])
        assert {**now, "seconds": 0} == {**manifest, "seconds": 0}
    written_at = [path.stat().st_mtime_ns for path in paths]
    assert wm(*command).code == 0
    assert [path.stat().st_mtime_ns for path in paths] == written_at
