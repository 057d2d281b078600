import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import frames, rollout
from worldmodels.data import store as module
from worldmodels.data.codec import compress_frames
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError


def test_every_byte_and_fact_comes_back(tmp_path):
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


def test_views_of_larger_arrays_are_stored_as_what_they_show(tmp_path):
    whole = rollout(6)
    store = EpisodeStore(tmp_path)
    mirrored = rollout(6, frames=whole.frames[:, :, ::-1], actions=whole.actions[:, ::-1])
    store.add(0, mirrored)
    assert np.array_equal(store.episodes[0].load().frames, whole.frames[:, :, ::-1])
    assert np.array_equal(store.episodes[0].load().actions, whole.actions[:, ::-1])


def test_every_tenth_episode_is_held_out_however_the_store_grows(tmp_path):
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


def test_an_empty_store_says_what_to_run(tmp_path):
    store = EpisodeStore(tmp_path / "episodes")
    with pytest.raises(UserError, match=r'0 episodes in .*run "wm collect --run runs/a" first'):
        store.require(Path("runs/a"))
    store.add(0, rollout(1))
    with pytest.raises(UserError, match=r"1 episodes in .*, expected 2 or more"):
        store.require(Path("runs/a"))
    store.add(1, rollout(1))
    store.require(Path("runs/a"))


def test_the_same_episode_gives_the_same_bytes_and_a_changed_one_another_digest(tmp_path):
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


def test_a_cut_or_garbled_file_is_one_clear_error_that_names_it(tmp_path):
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(4))
    path = store.episodes[0].path
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    contents = [b"", b"PK", whole[:-30], whole[: len(whole) // 2], random.bytes(1000)]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"000000\.npz is not a whole episode.*wm collect"):
            EpisodeStore(tmp_path).episodes[0].load()


def test_no_flipped_byte_goes_unnoticed_or_shows_a_traceback(tmp_path):
    store = EpisodeStore(tmp_path)
    written = rollout(2)
    store.add(0, written)
    path = store.episodes[0].path
    whole = path.read_bytes()
    messages = []
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        changed = EpisodeStore(tmp_path)
        noticed = bool(changed.contents.damaged) or changed.contents.episodes[0].damage()
        try:
            read = changed.episodes[0].load()
        except UserError as error:
            messages.append(str(error))
            assert noticed  # so that "wm collect" sets aside whatever training refuses
        else:  # a date or an attribute: nothing that is read
            assert np.array_equal(read.frames, written.frames)
            assert np.array_equal(read.actions, written.actions)
            assert np.array_equal(read.rewards, written.rewards)
    assert len(messages) > 0.9 * len(whole) / 7
    assert all("episode-000000.npz" in text and "\n" not in text for text in messages)


def rewrite(path, **changes):
    """The same file with some members changed, every checksum right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in changes.items():
        members[name.replace("_json", ".json").replace("_npy", ".npy")] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_zip_that_is_no_episode_is_refused(tmp_path):
    for meta in ("[]", "{}", '{"num_steps": "many"}', "not json"):
        with zipfile.ZipFile(tmp_path / "episode-000000.npz", "w") as archive:
            archive.writestr("meta.json", meta)
        with pytest.raises(UserError, match=r"is not a whole episode"):
            list(EpisodeStore(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", 0),
        ("num_steps", True),
        ("seed", "5"),
        ("terminated", 1),
        ("env_id", None),
        ("frame_shape", [64, 64]),
        ("frame_shape", [64, "64", 3]),
        ("format", 3),
    ],
)
def test_a_fact_that_makes_no_sense_is_damage(tmp_path, name, value):
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(3))
    (episode,) = store
    rewrite(episode.path, meta_json=json.dumps({**episode.meta, name: value}))
    with pytest.raises(UserError, match=rf"not a whole episode \({name}|\(format|\(no steps"):
        list(EpisodeStore(tmp_path))


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"rewards_npy": npy(np.zeros(4, np.float32))},
        {"rewards_npy": npy(np.zeros(3, np.float64))},
        {"actions_npy": npy(np.zeros((2, 3), np.float32))},
        {"actions_npy": npy(np.zeros(3, np.float32))},
        {"frames_npy": npy(np.zeros((4, 64, 64, 3), np.uint8))},
        {"frames_npy": npy(np.frombuffer(compress_frames(frames(3)), np.uint8))},
        {"frames_npy": npy(np.frombuffer(compress_frames(frames(5)), np.uint8))},
        {"frames_npy": npy(np.array(["text"]))},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_one_line(tmp_path, changes):
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(3))
    rewrite(store.episodes[0].path, **changes)
    with pytest.raises(UserError, match=r"episode-000000\.npz is not a whole episode") as caught:
        EpisodeStore(tmp_path).episodes[0].load()
    assert "\n" not in str(caught.value)


def test_every_damaged_file_has_a_line_and_the_store_tells_them_from_foreign_ones(tmp_path):
    store = EpisodeStore(tmp_path)
    for index in range(5):
        store.add(index, rollout(2, seed=index))
    for index in (1, 3):
        (tmp_path / f"episode-{index:06d}.npz").write_bytes(b"garbage")
    for name in ("notes.txt", "episode-7.npz", "episode-0000012.npz", "episode-x.npz"):
        (tmp_path / name).write_bytes(b"garbage")
    (tmp_path / ".episode-000009.npz.partial").write_bytes(b"half")
    store.refresh()
    with pytest.raises(UserError) as caught:
        len(store)
    lines = str(caught.value).splitlines()
    assert ["000001" in lines[0], "000003" in lines[1], len(lines)] == [True, True, 2]
    assert all("is not a whole episode (File is not a zip file)" in line for line in lines)
    assert [episode.index for episode in store.contents.episodes] == [0, 2, 4]
    assert len(store.contents.foreign) == 4


def test_mending_sets_aside_what_is_damaged_even_within(tmp_path):
    store = EpisodeStore(tmp_path)
    for index in range(3):
        store.add(index, rollout(4, seed=index))
    kept = store.episodes[0].path.read_bytes()
    cut, spoiled = store.episodes[1].path, store.episodes[2].path
    cut.write_bytes(cut.read_bytes()[:100])
    content = bytearray(spoiled.read_bytes())
    content[len(content) // 2] ^= 1  # among the frames: opening it does not show that
    spoiled.write_bytes(content)
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".episode-000009.npz.partial").write_bytes(b"half")
    said = []
    store.mend(said.append)
    assert len(said) == 4 and all("\n" not in line for line in said)
    for name in ("000009.npz.partial: left by", "notes.txt: not an", "000001.npz: damaged"):
        assert sum(name in line for line in said) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "episode-000000.npz",
        "episode-000001.npz.damaged",
        "episode-000002.npz.damaged",
        "notes.txt",
    ]
    assert [episode.index for episode in store] == [0]
    assert store.episodes[0].path.read_bytes() == kept
    said.clear()
    store.mend(said.append)
    assert said == [f"{tmp_path / 'notes.txt'}: not an episode, ignored"]


def test_an_episode_of_the_earlier_format_is_one_line(tmp_path):
    facts = {"num_steps": 3, "env_id": "Tiny-v0", "terminated": False}
    with zipfile.ZipFile(tmp_path / "episode-000000.npz", "w") as archive:
        archive.writestr("meta.json", json.dumps(facts))
    store = EpisodeStore(tmp_path)
    for call in (lambda: len(store), lambda: store.mend(print)):
        with pytest.raises(UserError, match=r"earlier version of worldmodels.*another folder"):
            call()
    assert len(list(tmp_path.iterdir())) == 1


def test_only_what_changed_is_opened_again(tmp_path, monkeypatch):
    store = EpisodeStore(tmp_path)
    opened = []
    original = module.open_episode
    monkeypatch.setattr(module, "open_episode", lambda *a: opened.append(a[0].name) or original(*a))
    for index in range(3):
        store.add(index, rollout(2))
        assert len(store) == index + 1
    assert len(opened) == 3
    store.add(1, rollout(3, seed=9))
    store.refresh()
    assert [episode.num_steps for episode in store] == [2, 3, 2]
    assert opened[3:] == ["episode-000001.npz"]


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_frames_come_back_without_the_rest_and_at_a_stride(tmp_path, stride):
    written = rollout(6)
    store = EpisodeStore(tmp_path)
    store.add(0, written)
    expected = written.frames[::stride]
    room = np.zeros_like(expected)
    store.episodes[0].read_frames(room, stride)
    assert store.episodes[0].num_frames(stride) == len(expected)
    assert np.array_equal(room, expected)


@pytest.mark.parametrize("failing", ["_write_file", "replace"])
def test_a_failed_write_leaves_neither_a_partial_file_nor_a_changed_one(
    tmp_path, monkeypatch, failing
):
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(4, seed=1))
    before = store.episodes[0].path.read_bytes()

    def fail(*arguments):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module if failing.startswith("_") else os, failing, fail)
        for index in (0, 1):
            with pytest.raises(OSError, match="No space left"):
                store.add(index, rollout(4, seed=2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["episode-000000.npz"]
    assert store.episodes[0].path.read_bytes() == before
