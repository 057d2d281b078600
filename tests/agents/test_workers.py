import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import Signals
from typing import NoReturn

import numpy as np
import pytest
import torch

from agents.collecting import play_episodes
from agents.policy import RepeatingPolicy
from agents.workers import Workers, chunks
from envs.make import make_env
from envs.processes import WorkerDiedError
from tests.fixtures.counting_env import BOX_ID, episode_length
from tests.fixtures.process_watch import is_running, wait_until

SEEDS = list(range(100, 119))  # two whole chunks and one of three


class ConvPolicy(RepeatingPolicy):
    """A network with outputs whose last bits depend on the batch size and on the threads."""

    def begin(self, starting: np.ndarray) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(2, 3, 16, 16, generator=generator) / 3000

    def select_actions(self, frames: np.ndarray, due: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
        outputs = torch.nn.functional.conv2d(pixels, self.weight, stride=4).mean(dim=(2, 3))
        noise = np.stack([generator.standard_normal(2) for generator in self.generators])
        return (outputs.numpy() + 0.1 * noise + 0.5).astype(np.float32)


def conv_policy() -> ConvPolicy:
    return ConvPolicy(make_env(BOX_ID).action_space, "conv", action_repeat=2)


def square(number: int) -> int:
    return number * number


def die_on_three(number: int) -> int:
    if number == 3:
        os._exit(7)
    return number


def fail_on_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is not wanted")
    return number


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


def test_results_keep_the_order_and_items_are_taken_only_when_wanted(two_workers: Workers) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    results = two_workers.map(square, items())
    assert next(results) == 0
    assert len(taken) <= 5
    assert list(results) == [number * number for number in range(1, 12)]


def test_one_and_two_workers_play_bit_equal_episodes(two_workers: Workers) -> None:
    ours = list(play_episodes(BOX_ID, conv_policy, SEEDS, workers=Workers(1)))
    theirs = list(play_episodes(BOX_ID, conv_policy, SEEDS, workers=two_workers))
    assert [rollout.seed for rollout in theirs] == SEEDS
    assert [rollout.num_steps for rollout in theirs] == [episode_length(seed) for seed in SEEDS]
    for one, two in zip(ours, theirs, strict=True):
        assert np.array_equal(one.frames, two.frames)
        assert np.array_equal(one.actions, two.actions)
        assert np.array_equal(one.rewards, two.rewards)
    assert len({rollout.actions.tobytes() for rollout in ours}) == len(SEEDS)


def test_a_short_chunk_is_padded_to_the_same_batch() -> None:
    alone = next(play_episodes(BOX_ID, conv_policy, SEEDS[:1], workers=Workers(1)))
    among = next(play_episodes(BOX_ID, conv_policy, SEEDS[:8], workers=Workers(1)))
    assert np.array_equal(alone.actions, among.actions)


def test_threads_are_restored_in_this_process() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(Workers(1).map(lambda _: torch.get_num_threads(), [0])) == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def die_at_first(note: Path | None) -> Path | None:
    """Create the file and end the process, if the file does not exist yet."""
    if note and not note.exists():
        note.touch()
        os._exit(7)
    return note


def test_what_a_dead_worker_was_at_is_done_again(tmp_path: Path) -> None:
    messages: list[str] = []
    notes = [tmp_path / str(number) if number % 3 == 0 else None for number in range(10)]
    with Workers(2, messages.append) as workers:
        assert list(workers.map(die_at_first, notes)) == notes
    assert set(messages) == {"a worker process died: its work is repeated in a new process"}


def test_a_worker_that_dies_again_and_again_is_an_error_and_the_next_map_works() -> None:
    with Workers(2, log=lambda line: None) as workers:
        with pytest.raises(WorkerDiedError, match=r"3 times in a row: a worker process died"):
            list(workers.map(die_on_three, range(20)))
        with pytest.raises(ValueError, match="three is not wanted"):
            list(workers.map(fail_on_three, range(20)))
        assert list(workers.map(square, [2, 3])) == [4, 9]


SLEEPING = """
import os, sys, time
from agents.workers import Workers

def sleep(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    with Workers(2) as workers:
        list(workers.map(sleep, sys.argv[1:]))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_workers_end_with_their_parent(tmp_path: Path, sent: Signals) -> None:
    script = tmp_path / "sleeping.py"
    script.write_text(SLEEPING)
    notes = [tmp_path / "a", tmp_path / "b"]
    parent = subprocess.Popen(
        [sys.executable, script, *notes],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.DEVNULL,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until(lambda: all(note.exists() and note.read_text() for note in notes), 30)
        parent.send_signal(sent)
        parent.wait(timeout=10)
        wait_until(lambda: not any(is_running(int(note.read_text())) for note in notes), 10)
    finally:
        parent.kill()
        parent.wait()


def test_workers_need_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", fail)
    monkeypatch.setattr("multiprocessing.heap.Arena.__init__", fail)
    monkeypatch.setattr("multiprocessing.shared_memory.SharedMemory.__init__", fail)
    with Workers(2) as workers:
        assert list(workers.map(square, range(3))) == [0, 1, 4]


def test_chunks() -> None:
    assert chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert chunks([]) == []
    with pytest.raises(ValueError, match="expected at least 0 workers, got -1"):
        Workers(-1)
