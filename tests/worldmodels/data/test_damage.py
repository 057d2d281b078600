"""Files that are not whole episodes of a store's env are listed, refused or quarantined."""

import errno
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests.fixtures.tiny_models import frames, rollout
from worldmodels.data.frame_codec import compress_frames
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError


def test_a_cut_or_garbled_file_is_one_clear_error_that_names_it(tmp_path: Path) -> None:
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


def test_no_flipped_byte_goes_unnoticed_or_shows_a_traceback(tmp_path: Path) -> None:
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


def rewrite(path: Path, **changes: bytes | str) -> None:
    """Rewrite a file with some members changed, so that all checksums are right."""
    with zipfile.ZipFile(path) as archive:
        members: dict[str, bytes | str] = {n: archive.read(n) for n in archive.namelist()}
    for name, content in changes.items():
        members[name.replace("_json", ".json").replace("_npy", ".npy")] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_zip_that_is_no_episode_is_refused(tmp_path: Path) -> None:
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
        ("format", "two"),
        ("format", 1),
        ("num_steps", 10**15),
        ("round", "x"),
        ("round", 0),
        ("round", True),
    ],
)
def test_a_fact_that_makes_no_sense_is_damage(tmp_path: Path, name: str, value: Any) -> None:
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(3))
    (episode,) = store
    rewrite(episode.path, meta_json=json.dumps({**episode.meta, name: value}))
    with pytest.raises(UserError, match=rf"not a whole episode \({name}|\(format|steps"):
        list(EpisodeStore(tmp_path))
    EpisodeStore(tmp_path).repair(lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["episode-000000.npz.damaged"]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"rewards_npy": npy(np.zeros(4, np.float32))},
        {"rewards_npy": npy(np.zeros(3, np.int32))},
        {"rewards_npy": npy(np.zeros((3, 1), np.float32))},
        {"actions_npy": npy(np.zeros((3, 3), np.int32))},
        {"rewards_npy": npy(np.zeros(3, np.float64))},
        {"actions_npy": npy(np.zeros((2, 3), np.float32))},
        {"actions_npy": npy(np.zeros(3, np.float32))},
        {"frames_npy": npy(np.zeros((4, 64, 64, 3), np.uint8))},
        {"frames_npy": npy(np.frombuffer(compress_frames(frames(3)), np.uint8))},
        {"frames_npy": npy(np.frombuffer(compress_frames(frames(5)), np.uint8))},
        {"frames_npy": npy(np.array(["text"]))},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_one_line(
    tmp_path: Path, changes: dict[str, bytes]
) -> None:
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(3))
    rewrite(store.episodes[0].path, **changes)
    with pytest.raises(UserError, match=r"episode-000000\.npz is not a whole episode") as caught:
        EpisodeStore(tmp_path).episodes[0].load()
    assert "\n" not in str(caught.value)
    store.repair(lambda line: None)  # sets aside whatever training refuses
    assert store.contents.episodes == []


def test_every_damaged_file_has_a_line_and_the_store_separates_them_from_foreign_ones(
    tmp_path: Path,
) -> None:
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


def test_repair_quarantines_what_is_damaged_even_within(tmp_path: Path) -> None:
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
    log_lines: list[str] = []
    store.repair(log_lines.append)
    assert len(log_lines) == 4 and all("\n" not in line for line in log_lines)
    for name in ("000009.npz.partial: left by", "notes.txt: not an", "000001.npz: damaged"):
        assert sum(name in line for line in log_lines) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "episode-000000.npz",
        "episode-000001.npz.damaged",
        "episode-000002.npz.damaged",
        "notes.txt",
    ]
    assert [episode.index for episode in store] == [0]
    assert store.episodes[0].path.read_bytes() == kept
    log_lines.clear()
    store.repair(log_lines.append)
    assert log_lines == [f"{tmp_path / 'notes.txt'}: not an episode, ignored"]


def test_an_episode_of_the_earlier_format_is_one_line(tmp_path: Path) -> None:
    metadata = {"num_steps": 3, "env_id": "Tiny-v0", "terminated": False}
    with zipfile.ZipFile(tmp_path / "episode-000000.npz", "w") as archive:
        archive.writestr("meta.json", json.dumps(metadata))
    store = EpisodeStore(tmp_path)
    for call in (lambda: len(store), lambda: store.repair(print)):
        with pytest.raises(UserError, match=r"earlier version of worldmodels.*another folder"):
            call()
    assert len(list(tmp_path.iterdir())) == 1


def test_an_episode_of_a_later_format_is_one_line_and_stays(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(3))
    (episode,) = store
    rewrite(episode.path, meta_json=json.dumps({**episode.meta, "format": 3}))
    store.refresh()
    for call in (lambda: len(store), lambda: store.repair(print)):
        with pytest.raises(UserError, match=r"later version of worldmodels \(format 3.*reads 2"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["episode-000000.npz"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("known", [False, True])
def test_what_the_system_would_not_read_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, known: bool
) -> None:
    store = EpisodeStore(tmp_path)
    for index in range(2):
        store.add(index, rollout(3, seed=index))
    (tmp_path / "episode-000000.npz").write_bytes(b"garbage")
    if known:  # the error comes while checksums are read, not on opening
        _ = store.contents

    def fail(path: Path) -> NoReturn:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", fail)
        with pytest.raises(UserError, match=rf"cannot be read \({os.strerror(number)}\)"):
            store.repair(print)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["episode-000000.npz", "episode-000001.npz"]


def test_files_set_aside_never_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    path = tmp_path / "episode-000004.npz"
    for number in range(3):
        path.write_bytes(f"garbage {number}".encode())
        store.repair(lambda line: None)
    assert {quarantined.name: quarantined.read_bytes() for quarantined in tmp_path.iterdir()} == {
        "episode-000004.npz.damaged": b"garbage 0",
        "episode-000004.npz.2.damaged": b"garbage 1",
        "episode-000004.npz.3.damaged": b"garbage 2",
    }
    assert store.missing() == {4: None}
    store.add(4, rollout(2))
    assert store.missing() == {}


def test_metadata_of_a_quarantined_file_is_salvaged(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.add(3, rollout(4), round=2)
    (episode,) = store
    content = bytearray(episode.path.read_bytes())
    content[len(content) // 2] ^= 1
    episode.path.write_bytes(content)
    store.repair(lambda line: None)
    assert store.missing() == {3: episode.meta}


@pytest.mark.parametrize(
    "changes", [{"env_id": "Other-v0"}, {"actions": np.zeros((2, 5), np.float32)}]
)
def test_an_episode_of_another_env_or_width_is_named_and_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    store = EpisodeStore(tmp_path)
    store.add(0, rollout(2, **changes))
    for index in (1, 2):
        store.add(index, rollout(2, seed=index))
    assert [episode.action_size for episode in store.contents.episodes[1:]] == [3, 3]
    with pytest.raises(UserError, match=r"000000\.npz is of .* the others are of Tiny") as caught:
        list(store)
    assert "\n" not in str(caught.value)
    store.repair(lambda line: None)
    assert len(store.contents.episodes) == 3
    store.contents.episodes[0].path.unlink()
    store.refresh()
    assert len(store) == 2
