import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.fixtures.process_watch import wait_until
from tests.fixtures.tiny_models import rollout
from worldmodels.data import batches as module
from worldmodels.data.batches import FrameBatches
from worldmodels.data.episode import Episode
from worldmodels.data.phases import Phase
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered_store(
    folder: Path, lengths: Sequence[int], rounds: Sequence[int] | None = None
) -> EpisodeStore:
    """Make a store in which frame t of episode e has the color (e, t, 0)."""
    store = EpisodeStore(folder)
    for index, length in enumerate(lengths):
        pictures = np.zeros((length + 1, 64, 64, 3), np.uint8)
        pictures[..., 0] = index
        pictures[..., 1] = np.arange(length + 1)[:, None, None]
        meta = {} if rounds is None else {"round": rounds[index]}
        store.add(index, rollout(length, frames=pictures), **meta)
    return store


def shown(batch: Tensor) -> list[tuple[int, int]]:
    return [(int(frame[0, 0, 0]), int(frame[0, 0, 1])) for frame in batch]


def test_a_small_store_stays_in_memory_and_a_batch_is_a_function_of_its_generator(
    tmp_path: Path,
) -> None:
    store = numbered_store(tmp_path, [3, 5, 4])
    batches = FrameBatches(store.episodes, batch_size=8)
    assert (batches.num_frames, batches.fits_in_memory) == (4 + 6 + 5, True)
    assert shown(batches.all_frames()) == [
        (episode, frame) for episode, count in enumerate((4, 6, 5)) for frame in range(count)
    ]
    first = batches(0, draw(0)).frames
    assert torch.equal(first, batches(99, draw(0)).frames)
    assert not torch.equal(first, batches(0, draw(1)).frames)
    seen = {frame for step in range(40) for frame in shown(batches(step, draw(step)).frames)}
    assert len(seen) == 15
    assert batches.frames_read == 15


def in_phases(store: EpisodeStore, **changes: Any) -> FrameBatches:
    settings = {"batch_size": 5, "seed": 3, "max_frames": 22}
    return FrameBatches(store.episodes, **{**settings, **changes})


def phases_of(batches: FrameBatches, count: int) -> list[Phase]:
    return [batches._phases[number] for number in range(count)]


def test_phases_reach_every_frame_within_the_memory_given(tmp_path: Path) -> None:
    store = numbered_store(tmp_path, [4] * 7)
    batches = in_phases(store)
    first_pass = phases_of(batches, 4)  # two episodes of five frames fit in half of 22
    assert [len(phase.episodes) for phase in first_pass] == [2, 2, 2, 1]
    assert [phase.num_steps for phase in first_pass] == [2, 2, 2, 1]  # one look at each frame
    assert sorted(e for phase in first_pass for e in phase.episodes) == list(range(7))
    seen = set()
    for step in range(280):
        seen |= set(shown(batches(step, draw(step)).frames))
        assert len(batches._frames) <= 11
        assert len(batches._buffers) == 2 and sum(map(len, batches._buffers)) <= 22
        number = batches._number
        assert number is not None
        held = {batches.episodes[e].index for e in batches._phases[number].episodes}
        assert {episode for episode, _ in shown(batches._frames)} == held
    assert seen == {(episode, frame) for episode in range(7) for frame in range(5)}
    orders = [phases_of(batches, 8)[i : i + 4] for i in (0, 4)]
    assert [p.episodes for p in orders[0]] != [p.episodes for p in orders[1]]


def test_any_step_gives_the_same_batch_whatever_came_before(tmp_path: Path) -> None:
    store = numbered_store(tmp_path, [4, 2, 9, 1, 6, 3, 3])
    straight = in_phases(store, recent_fraction=0.4)
    expected = [straight(step, draw(step)) for step in range(30)]
    jumping = in_phases(store, recent_fraction=0.4, num_readers=3)
    for step in (17, 18, 3, 29, 0, 1, 2, 17, 28):
        assert torch.equal(jumping(step, draw(step)).frames, expected[step].frames)
    resumed = in_phases(store, recent_fraction=0.4)
    assert torch.equal(resumed(29, draw(29)).frames, expected[29].frames)


def test_memory_is_bounded_by_frames_held_and_not_by_the_mean_episode(tmp_path: Path) -> None:
    lengths = [1] * 12 + [8] * 3
    store = numbered_store(tmp_path, lengths)
    batches = in_phases(store, max_frames=20)
    for phase in phases_of(batches, 40):
        assert sum(lengths[e] + 1 for e in phase.episodes) <= 10
    # An episode that alone is longer than half of the memory is held alone.
    store.add(15, rollout(14, frames=np.zeros((15, 64, 64, 3), np.uint8)))
    batches = in_phases(store, max_frames=20)
    alone = [phase for phase in phases_of(batches, 40) if 15 in phase.episodes]
    assert alone and all(phase.episodes == (15,) for phase in alone)
    for step in range(30):
        batches(step, draw(step))
    assert [len(buffer) for buffer in batches._buffers] == [15, 15]


def test_a_sample_of_a_large_store_is_spread_over_it_and_changes_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SAMPLED_FRAMES", 6)
    monkeypatch.setattr(module, "MAX_SAMPLED_EPISODES", 3)
    store = numbered_store(tmp_path, [4] * 7)
    batches = in_phases(store)
    sample = batches.all_frames()
    assert shown(sample) == [(0, 0), (0, 3), (3, 0), (3, 3), (6, 0), (6, 3)]
    for step in range(30):
        batches(step, draw(step))
    assert shown(sample) == [(0, 0), (0, 3), (3, 0), (3, 3), (6, 0), (6, 3)]


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "frame reader"]


def test_the_next_phase_is_read_while_this_one_lasts(tmp_path: Path) -> None:
    store = numbered_store(tmp_path, [4] * 7)
    batches = in_phases(store)
    batches(0, draw(0))
    wait_until(lambda: not readers(), seconds=10)
    for path in tmp_path.iterdir():
        path.unlink()  # what comes now was read before
    batches(batches._phases[1].first_step, draw(0))
    with pytest.raises(UserError, match="No such file"):
        batches(batches._phases[2].first_step, draw(0))


def test_damage_that_a_reader_meets_reaches_the_caller_as_one_line(tmp_path: Path) -> None:
    store = numbered_store(tmp_path, [4] * 7)
    batches = in_phases(store)
    spoiled = batches.episodes[batches._phases[2].episodes[0]].path
    content = bytearray(spoiled.read_bytes())
    content[content.index(b"frames.npy") + 150] ^= 1  # past NumPy's header
    spoiled.write_bytes(content)
    first_steps = [phase.first_step for phase in phases_of(batches, 3)]
    for step in first_steps[:2]:
        batches(step, draw(step))
    with pytest.raises(UserError, match=rf"{spoiled.name} is not a whole episode.*wm collect"):
        batches(first_steps[2], draw(0))


def test_no_reader_outlives_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = threading.Event()
    original = Episode.read_frames

    def slowly(self: Any, *arguments: Any) -> None:
        reading.set()
        time.sleep(0.5)
        original(self, *arguments)

    store = numbered_store(tmp_path, [1] * 40)
    batches = in_phases(store, max_frames=40)
    batches(0, draw(0))
    wait_until(lambda: not readers(), seconds=10)
    monkeypatch.setattr(Episode, "read_frames", slowly)
    reading.clear()
    batches._fetch(3)
    assert reading.wait(10)
    assert readers()
    del batches
    wait_until(lambda: not readers(), seconds=3)  # ten episodes take 5 s


def test_a_program_ends_at_once_while_a_reader_reads(tmp_path: Path) -> None:
    numbered_store(tmp_path / "episodes", [1] * 200)
    program = f"""
import pathlib, time, torch
from worldmodels.data.batches import FrameBatches
from worldmodels.data.episode import Episode
from worldmodels.data.store import EpisodeStore
store = EpisodeStore(pathlib.Path({str(tmp_path / "episodes")!r}))
batches = FrameBatches(store.episodes, 2, max_frames=200)
batches(0, torch.Generator().manual_seed(0))
Episode.read_frames = lambda *_: time.sleep(1.0)
batches._fetch(7)
print(time.time(), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert time.time() - float(done.stdout) < 30  # 50 episodes of a second would take 50
    assert done.stderr == ""


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    store = numbered_store(tmp_path, [2, 2])
    store.add(2, rollout(2, frames=np.zeros((3, 32, 64, 3), np.uint8)))
    with pytest.raises(UserError, match=r"2\.npz is .* frames \(32, 64, 3\), but the others are"):
        _ = store.episodes


@pytest.mark.parametrize("max_frames", [100, 4])
def test_stride_keeps_every_such_frame(tmp_path: Path, max_frames: int) -> None:
    store = numbered_store(tmp_path, [6, 5])
    batches = FrameBatches(store.episodes, batch_size=2, stride=3, max_frames=max_frames)
    expected = [(0, 0), (0, 3), (0, 6), (1, 0), (1, 3)]
    assert shown(batches.all_frames()) == expected
    assert batches.num_frames == len(expected)
    seen = {frame for step in range(60) for frame in shown(batches(step, draw(step)).frames)}
    assert seen == set(expected)


@pytest.mark.parametrize("max_frames", [1000, 44])
def test_a_part_of_each_batch_is_of_the_newest_round(tmp_path: Path, max_frames: int) -> None:
    store = numbered_store(tmp_path, [10, 10, 10, 10, 2], rounds=[1, 1, 2, 2, 3])
    batches = FrameBatches(store.episodes, batch_size=8, recent_fraction=0.5, max_frames=max_frames)
    counts = []
    for step in range(100):
        counts.append(sum(episode == 4 for episode, _ in shown(batches(step, draw(step)).frames)))
    assert min(counts) >= 4
    # Of the rest of the batch no more than its share: 3 of 47 frames.
    assert np.mean(counts) - 4 == pytest.approx(4 * 3 / 47, abs=0.2)
    plain = FrameBatches(store.episodes, batch_size=400)
    fraction = np.mean([episode == 4 for episode, _ in shown(plain(0, draw(0)).frames)])
    assert fraction == pytest.approx(3 / 47, abs=0.05)


@pytest.mark.parametrize("max_frames", [1_000, 10])
def test_each_frame_comes_with_the_mean_frame_of_its_episode(
    tmp_path: Path, max_frames: int
) -> None:
    store = numbered_store(tmp_path, [3, 5, 4])
    batches = FrameBatches(store.episodes, batch_size=16, max_frames=max_frames)
    assert batches.fits_in_memory == (max_frames > 15)
    means = []
    for episode in store.episodes:
        frames = np.empty((episode.num_frames(1), *episode.frame_shape), np.uint8)
        episode.read_frames(frames, 1)
        means.append(torch.from_numpy(frames.mean(0).round().astype(np.uint8)))
    for batch in (*(batches(step, draw(step)) for step in range(12)), batches.spread(7)):
        for (index, _), still in zip(shown(batch.frames), batch.still, strict=True):
            assert torch.equal(still, means[index])
    assert len(batches.spread(7).frames) <= 7
