import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tests.fixtures.tiny_models import rollout
from worldmodels.data import store as module
from worldmodels.data.damage import Damage
from worldmodels.data.episode import Episode, open_episode
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError


def test_every_byte_and_fact_comes_back(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    written = rollout(7, seed=5, terminated=True, truncated=False)
    store.add(3, written, round=2)
    (episode,) = store
    read = episode.load()
    for name in ("frames", "actions", "rewards"):
        before, after = getattr(written, name), getattr(read, name)
        assert before.dtype == after.dtype and np.array_equal(before, after)
    for name in ("terminated", "truncated", "env_id", "seed", "policy", "action_repeat"):
        assert getattr(read, name) == getattr(written, name)
    assert (episode.index, episode.num_steps, episode.meta["round"]) == (3, 7, 2)
    assert episode.meta["episode_return"] == pytest.approx(written.rewards.sum())


def test_views_of_larger_arrays_are_stored_as_what_they_show(tmp_path: Path) -> None:
    whole = rollout(6)
    store = EpisodeStore(tmp_path)
    mirrored = rollout(6, frames=whole.frames[:, :, ::-1], actions=whole.actions[:, ::-1])
    store.add(0, mirrored)
    assert np.array_equal(store.episodes[0].load().frames, whole.frames[:, :, ::-1])
    assert np.array_equal(store.episodes[0].load().actions, whole.actions[:, ::-1])


def test_every_tenth_episode_is_held_out_however_the_store_grows(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    for index in (11, 0, 1, 10, 2):
        store.add(index, rollout(1, seed=index))
    assert [episode.index for episode in store.split(held_out=True)] == [0, 10]
    assert [episode.index for episode in store.split(held_out=False)] == [1, 2, 11]
    before = {episode.index: episode.held_out for episode in store}
    store.add(20, rollout(1, seed=20))
    assert {e.index: e.held_out for e in store if e.index != 20} == before
    assert [episode.index for episode in store.split(held_out=True)] == [0, 10, 20]
    assert len(store) == 6


def test_an_empty_store_says_what_to_run(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes")
    with pytest.raises(UserError, match=r'in .*, got 0: run "wm collect --run runs/a" first'):
        store.require(Path("runs/a"))
    store.add(0, rollout(1))
    with pytest.raises(UserError, match=r"expected at least 2 episodes in .*, got 1"):
        store.require(Path("runs/a"))
    store.add(1, rollout(1))
    store.require(Path("runs/a"))


def test_the_same_episode_gives_the_same_bytes_and_a_changed_one_another_digest(
    tmp_path: Path,
) -> None:
    first, second = EpisodeStore(tmp_path / "a"), EpisodeStore(tmp_path / "b")
    for store in (first, second):
        store.add(0, rollout(4, seed=1))
    assert first.episodes[0].path.read_bytes() == second.episodes[0].path.read_bytes()
    assert first.digest == second.digest
    seen = {first.digest}
    one_pixel = rollout(4, seed=1).frames.copy()
    one_pixel[2, 3, 4, 0] ^= 1
    second.add(0, rollout(4, seed=1, frames=one_pixel))
    seen.add(second.digest)
    second.add(0, rollout(4, seed=1), round=2)  # the metadata counts too
    seen.add(second.digest)
    second.add(1, rollout(4, seed=1))
    seen.add(second.digest)
    first.add(1, rollout(4, seed=1))
    second.add(0, rollout(4, seed=1))
    assert len(seen) == 4
    assert first.digest == second.digest


def test_only_what_changed_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EpisodeStore(tmp_path)
    opened = []

    def noted(path: Path, *details: int) -> Episode | Damage:
        opened.append(path.name)
        return open_episode(path, *details)

    monkeypatch.setattr(module, "open_episode", noted)
    for index in range(3):
        store.add(index, rollout(2))
        assert len(store) == index + 1
    assert len(opened) == 3
    store.add(1, rollout(3, seed=9))
    store.refresh()
    assert [episode.num_steps for episode in store] == [2, 3, 2]
    assert opened[3:] == ["episode-000001.npz"]


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_frames_come_back_without_the_rest_and_at_a_stride(tmp_path: Path, stride: int) -> None:
    written = rollout(6)
    store = EpisodeStore(tmp_path)
    store.add(0, written)
    expected = written.frames[::stride]
    room = np.zeros_like(expected)
    store.episodes[0].read_frames(room, stride)
    assert store.episodes[0].num_frames(stride) == len(expected)
    assert np.array_equal(room, expected)


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_failed_write_leaves_neither_a_partial_file_nor_a_changed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(4, seed=1))
    before = store.episodes[0].path.read_bytes()

    def fail(*arguments: object) -> NoReturn:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path if failing == "write_bytes" else os, failing, fail)
        for index in (0, 1):
            with pytest.raises(OSError, match="No space left"):
                store.add(index, rollout(4, seed=2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["episode-000000.npz"]
    assert store.episodes[0].path.read_bytes() == before
