"""The search for driving elites, in envs with known rewards, and the episodes of the elites."""

import csv
import functools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch

from agents.rollout import play, play_scores
from agents.workers import Workers
from envs.tasks import task_for
from tests.fixtures.command import wm, wm_json
from tests.fixtures.counting_env import BOX_ID
from tests.fixtures.tiny_run import box_run, tiny_run
from worldmodels.controller.agent import AgentFactory, load_agent
from worldmodels.controller.elite_agents import ElitesFactory, elite_of
from worldmodels.controller.real_episodes import RealEpisodes
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import Checkpoint, load_checkpoint
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.stages import elites_drive
from worldmodels.stages.collect import CollectConfig, collect, replacements
from worldmodels.stages.elites_drive import DriveConfig, drive_elites

# Random weights fill about a fifth of the cells. From then on, children of elites are evaluated.
CONFIG = DriveConfig(
    evaluations=58, episodes=2, max_steps=8, cells=4, batch_size=12, start_sigma=1.0, iso_sigma=0.5
)


def drive(
    run: Run, config: DriveConfig = CONFIG, workers: int = 1, **options: Any
) -> dict[str, Any]:
    with Workers(workers) as pool:
        return drive_elites(run, config, workers=pool, report=Report(quiet=True), **options)


def archive(run: Run) -> Checkpoint:
    return load_checkpoint(run.folder / "elites" / "elites.safetensors", hint="none")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    """Make a run of a Box env with elites, and return the run and the result of the stage."""
    run = box_run(tmp_path_factory.mktemp("runs") / "elites")
    return run, drive(run)


def test_elites_fill_niches_and_each_is_worth_what_it_earns_when_it_plays_alone(
    finished: tuple[Run, dict[str, Any]],
) -> None:
    run, result = finished
    saved, agent = archive(run), load_agent(run.folder / "elites" / "elites.safetensors")
    count = len(agent.parameters)
    assert 4 <= count == result["elites"] <= result["num_cells"] == 16
    assert result["coverage"] == count / 16
    tracks = np.random.default_rng(0).integers(1_000_000, size=2).tolist()
    fitness, measures, cells, centroids = (
        saved.tensors[f"elites.{name}"].numpy()
        for name in ("fitness", "measures", "cell", "centroids")
    )
    for row in range(count):
        alone = AgentFactory(
            run.folder / "elites" / "elites.safetensors", agent.parameters[[row]].numpy()
        )()
        make = functools.partial(gym.make, BOX_ID, max_episode_steps=8)
        scores = play_scores(make, alone, tracks, measures=task_for(BOX_ID).measures, batch_size=8)
        assert fitness[row] == pytest.approx(np.mean([s.episode_return for s in scores]), abs=1e-3)
        assert measures[row] == pytest.approx(np.mean([s.measures for s in scores], 0), abs=1e-6)
        assert cells[row] == np.square(centroids - measures[row]).sum(1).argmin()
    assert cells.tolist() == sorted(set(cells.tolist()))
    assert result["best_fitness"] == fitness.max()
    assert result["mean_fitness"] == pytest.approx(fitness.mean())
    assert result["norm_qd_score"] == pytest.approx((fitness + 130.0).sum() / 16)


def test_what_a_search_leaves_is_whole(finished: tuple[Run, dict[str, Any]]) -> None:
    run, result = finished
    folder = run.folder / "elites"
    left = {path.name for path in folder.iterdir()}
    files = {"elites.safetensors", "curve.csv", "elites.png", "manifest.json", "result.json"}
    assert left == {*files, "events"}
    assert not list(run.folder.glob(".*")), "a finished search leaves nothing half done"
    assert run.result("elites") == json.loads(json.dumps(result))
    assert result["measures"] == ["action 0 (magnitude)", "action 1 (magnitude)"]
    with (folder / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["evaluations"]) for row in rows] == [12, 24, 36, 48, 60]
    coverage = [float(row["coverage"]) for row in rows]
    assert coverage == sorted(coverage) and coverage[0] > 0
    steps = [int(row["steps"]) for row in rows]
    assert steps == [steps[0] * number for number in range(1, 6)]  # the same tracks for all
    assert iio.imread(folder / "elites.png").std() > 1
    assert run.stale("elites") == []
    summary = archive(run).metadata["metadata"]
    assert summary["measures"] == result["measures"] and summary["made_by"]["stage"] == "elites"


def test_a_finished_search_is_not_done_again_and_another_seed_is_another_search(
    finished: tuple[Run, dict[str, Any]],
) -> None:
    run, result = finished
    file = run.folder / "elites" / "elites.safetensors"
    before = file.stat().st_mtime_ns
    assert drive(run) == json.loads(json.dumps(result))
    assert file.stat().st_mtime_ns == before
    first = archive(run).tensors["elites.fitness"]
    other = box_run(run.folder.parent / "other")
    drive(other, seed=1)
    assert not torch.equal(first[:4], archive(other).tensors["elites.fitness"][:4])


def same(run: Run, other: Run) -> bool:
    ours, theirs = archive(run).tensors, archive(other).tensors
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_two_workers_find_the_same_elites(
    finished: tuple[Run, dict[str, Any]], tmp_path: Path
) -> None:
    again = box_run(tmp_path / "again")
    torch.manual_seed(7)  # what the global generator holds must not matter
    drive(again, workers=2)
    assert same(again, finished[0])


class Killed(Exception):
    """An exception that acts as a kill: the stage saves nothing when it is raised."""


@pytest.mark.parametrize("end", [KeyboardInterrupt, Killed])
def test_a_search_that_is_stopped_again_and_again_ends_the_same(
    finished: tuple[Run, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: type[KeyboardInterrupt] | type[Killed],
) -> None:
    monkeypatch.setattr(elites_drive, "CHECKPOINT_SECONDS", 0.0)
    run = box_run(tmp_path / "again")
    whole = RealEpisodes.__call__
    counts = []
    for stop in (0, 1, 2, 1):
        left = iter(range(stop))

        def until_stopped(self: Any, *arguments: Any, left: Iterator[int] = left) -> Any:
            scores = whole(self, *arguments)
            if next(left, None) is None:  # played, but not told
                raise end("stopped")
            return scores

        monkeypatch.setattr(RealEpisodes, "__call__", until_stopped)
        with pytest.raises(end, match="stopped"):
            drive(run)
        search = run.folder / ".elites.partial" / "search.safetensors"
        done = load_checkpoint(search, hint="").metadata["history"] if search.exists() else []
        counts.append(len(done))
    assert counts == [0, 1, 3, 4]
    monkeypatch.setattr(RealEpisodes, "__call__", whole)
    result = drive(run)
    assert same(run, finished[0])
    assert result["steps"] == finished[1]["steps"]
    with (run.folder / "elites" / "curve.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5


def test_a_discrete_env_is_measured_by_the_shares_of_its_actions(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "a", "fsq")
    result = drive(run, replace(CONFIG, inputs="z", evaluations=24))
    saved = archive(run)
    fractions = saved.tensors["elites.measures"]
    assert result["measures"] == ["action 1 (fraction)", "action 2 (fraction)"]
    assert len(fractions) > 1 and (fractions.sum(1) <= 1 + 1e-9).all()
    assert saved.tensors["controller.parameters"].shape[1] == result["parameters"]
    assert saved.metadata["spec"]["inputs"] == "z"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluations": 0}, "evaluations must be at least 1, got 0"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"cells": 1}, "cells must be at least 2, got 1"),
        ({"line_sigma": 0.0}, r"line_sigma must be above 0, got 0\.0"),
        ({"inputs": "h"}, 'inputs must be "zh" or "z", got "h"'),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DriveConfig(**settings)


def test_all_elites_play_in_turn_and_not_the_same_ones_what_training_must_not_see() -> None:
    turns = [[elite_of(30 * turn + place, 30) for place in range(30)] for turn in range(10)]
    assert all(sorted(turn) == list(range(30)) for turn in turns)
    held_out = {elite for turn in turns for elite in turn[::10]}
    assert len(held_out) > 15
    assert {elite_of(number, 1) for number in range(5)} == {0}


def contents(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.store.folder.iterdir()}


def play_elites(run: Run, episodes: int, workers: int = 1) -> dict[str, Any]:
    config = CollectConfig(episodes, policy="elites")
    with Workers(workers) as pool:
        return collect(run, config, workers=pool, report=Report(quiet=True), round_=2)


@pytest.fixture
def with_elites(finished: tuple[Run, dict[str, Any]], tmp_path: Path) -> Run:
    """Make a copy of the run with elites, which a test may damage."""
    run = box_run(tmp_path / "copy")
    shutil.copytree(finished[0].folder / "elites", run.folder / "elites")
    return run


def test_episodes_of_elites_are_played_each_by_its_own_without_noise(with_elites: Run) -> None:
    run = with_elites
    file = run.folder / "elites" / "elites.safetensors"
    agent = load_agent(file)
    count = 2 * len(agent.parameters)  # the second time round, all
    assert play_elites(run, count, workers=2)["episodes"] == count
    make = functools.partial(gym.make, BOX_ID)
    played = set()
    for episode in run.store.episodes[4:]:
        assert (episode.meta["policy"], episode.meta["elites"]) == ("elites", file_digest(file))
        elite = elite_of(episode.meta["seed"], len(agent.parameters))
        alone = AgentFactory(file, agent.parameters[[elite]].numpy())()
        (expected,) = play(make, alone, [episode.meta["seed"]], batch_size=8)
        assert episode.load().actions == pytest.approx(expected.actions, abs=1e-6)
        played.add(elite)
    assert len(played) == len(agent.parameters)
    # Cut off and gone on with, by another number of workers.
    before = contents(run)
    for name in sorted(before)[9:]:
        (run.store.folder / name).unlink()
    run.store.refresh()
    play_elites(run, count)
    assert contents(run) == before


def test_damaged_episodes_of_elites_are_played_again_as_they_were(with_elites: Run) -> None:
    run = with_elites
    play_elites(run, 15)
    before = contents(run)
    content = bytearray(before["episode-000009.npz"])
    content[content.index(b"frames.npy") + 150] ^= 1
    (run.store.folder / "episode-000009.npz").write_bytes(content)
    done = wm("collect", "--run", run.folder, "--episodes", 15, "--workers", 1)
    assert "episode 9: played again in round 2 with the elites policy" in done.error
    after = contents(run)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("gone", "words", "policy"),
    [
        (
            True,
            "with the exploring policy, because the elites of this episode are gone",
            "exploring",
        ),
        (False, "with the current elites, because the elites of this episode are gone", "elites"),
    ],
)
def test_what_is_not_played_by_the_same_elites_says_so(
    with_elites: Run, gone: bool, words: str, policy: str
) -> None:
    run = with_elites
    play_elites(run, 9)
    (run.store.folder / "episode-000006.npz").write_bytes(b"garbage")
    run.store.refresh()
    run.store.repair(lambda line: None)
    file = run.folder / "elites" / "elites.safetensors"
    file.unlink() if gone else file.write_bytes(b"others")
    said: list[str] = []
    ((again, _),) = replacements(run, CollectConfig(9), 2, said.append)
    assert said == [f"episode 6: played again in round 2 {words}"]
    assert again.policy == policy


def test_a_factory_gives_every_row_its_elite(finished: tuple[Run, dict[str, Any]]) -> None:
    factory = ElitesFactory(finished[0].folder / "elites" / "elites.safetensors")
    agent = factory.for_episodes([5, 900_001, 7])
    every = load_agent(factory.path).parameters
    rows = [elite_of(seed, len(every)) for seed in (5, 900_001, 7)]
    assert agent.parameters.shape[0] == 8 and agent.name == "elites"
    assert torch.equal(agent.parameters[:3], every[rows])


def test_the_command_says_what_is_missing_in_one_line(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "a")
    done = wm("collect", "--run", run.folder, "--policy", "elites", "--episodes", 9)
    line = f'wm: no elites in {run}: run "wm elites drive --run {run}" first'
    assert (done.code, done.error.strip().splitlines()[-1]) == (2, line)
    assert not (run.folder / "collect").exists()
    (run.folder / "memory" / "memory.safetensors").unlink()
    done = wm("elites", "drive", "--run", run.folder)
    assert done.code == 2 and f'run "wm train-memory --run {run}" first' in done.error
    done = wm("elites", "drive", "--run", run.folder, "--cells", 0)
    assert done.code == 2 and "cells must be at least 2, got 0" in done.error
    done = wm("elites", "drive", "--run", tmp_path / "none")
    assert done.code == 2 and "wm collect --run" in done.error
    assert not (run.folder / "elites").exists()


def test_the_command_drives_the_real_game(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "a")
    options = ("--evaluations", 8, "--batch", 8, "--episodes", 1, "--max-steps", 20, "--cells", 8)
    result = wm_json("elites", "drive", "--run", run.folder, *options, "--workers", 1)
    assert result["measures"] == ["speed (units/s)", "steering"]
    assert (result["evaluations"], result["num_cells"], result["steps"]) == (8, 64, 8 * 20)
    summary = wm_json("info", "--run", run.folder)["elites"]
    assert summary["elites"] == result["elites"] > 1 and summary["qd_score_offset"] == -130.0
    assert Run(run.folder).stale("elites") == []
    assert wm("elites", "drive", "--help").code == 0
