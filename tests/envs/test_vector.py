"""`ProcessVectorEnv` returns the same bits as Gymnasium's vectors, which use one process."""

import errno
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from envs.vector import ProcessVectorEnv
from envs.vector_share import SharedMemoryError
from tests.fixtures.counting_env import BOX_ID, episode_length
from tests.fixtures.talking_env import NUM_ENVS, TalkingEnv, factories, random_actions


@pytest.fixture(scope="module")
def shared_envs() -> Iterator[ProcessVectorEnv]:
    """Environments for tests that do not close them; each of these tests begins with a reset."""
    envs = ProcessVectorEnv(factories(), 2, autoreset_mode=AutoresetMode.DISABLED)
    yield envs
    envs.close()


def play(envs: Any, num_steps: int) -> list[Any]:
    """Return the results of resets and steps; if autoreset is disabled, ended envs are reset."""
    returned: list[Any] = [
        envs.reset(seed=3),
        envs.reset(seed=[7, None, 7, 1, 2][: envs.num_envs], options={"a": 1}),
    ]
    for actions in random_actions(num_steps, envs.num_envs):
        returned.append(envs.step(actions))
        done = returned[-1][2] | returned[-1][3]
        if envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED and done.any():
            returned.append(envs.reset(options={"reset_mask": done.copy(), "b": 2}))
    returned.append(envs.reset(seed=list(range(10, 10 + envs.num_envs))))
    return returned


def assert_same(ours: Any, theirs: Any) -> None:
    """Assert that types, dtypes, shapes, values and the order of keys are equal."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        if ours.dtype != object:
            np.testing.assert_array_equal(ours, theirs)
            return
    if isinstance(ours, list | tuple | np.ndarray):
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    else:
        assert ours == theirs


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.name)
def test_results_are_gymnasiums_for_any_number_of_workers(mode: AutoresetMode) -> None:
    theirs = play(SyncVectorEnv(factories(), autoreset_mode=mode), 40)
    assert sum((step[2] | step[3]).sum() for step in theirs if len(step) == 5) > 3 * NUM_ENVS
    for num_workers in (1, 2, 3):
        envs = ProcessVectorEnv(factories(), num_workers, autoreset_mode=mode)
        assert envs.metadata == {**TalkingEnv.metadata, "autoreset_mode": mode}
        assert len(set(envs.get_attr("process_id"))) == num_workers
        assert_same(play(envs, 40), theirs)
        envs.close()


def test_a_vector_of_one_is_gymnasiums() -> None:
    envs = ProcessVectorEnv(factories(1), 1)
    assert_same(play(envs, 10), play(SyncVectorEnv(factories(1)), 10))
    envs.close()


def test_spaces_are_gymnasiums(shared_envs: ProcessVectorEnv) -> None:
    theirs = SyncVectorEnv(factories())
    for name in ("observation_space", "action_space"):
        for prefix in ("", "single_"):
            assert getattr(shared_envs, prefix + name) == getattr(theirs, prefix + name)
    assert shared_envs.num_envs == NUM_ENVS and shared_envs.render_mode == "rgb_array"


def test_seeds_are_one_number_or_one_an_environment(shared_envs: ProcessVectorEnv) -> None:
    counted, _ = shared_envs.reset(seed=40)
    listed, _ = shared_envs.reset(seed=[40, 41, 42, 43, 40])
    np.testing.assert_array_equal(counted[:4], listed[:4])
    np.testing.assert_array_equal(counted[0], listed[4])
    with pytest.raises(ValueError, match="expected 5 seeds, one per env, got 2"):
        shared_envs.reset(seed=[1, 2])


def test_a_mask_resets_what_it_names(shared_envs: ProcessVectorEnv) -> None:
    before, _ = shared_envs.reset(seed=0)
    options = {"reset_mask": np.array([False, False, False, True, False]), "level": 2}
    after, infos = shared_envs.reset(seed=9, options=options)
    assert (after != before).any(axis=(1, 2)).tolist() == [False, False, False, True, False]
    assert infos["options"]["level"].tolist() == [0, 0, 0, 2, 0]
    assert list(options) == ["reset_mask", "level"], "the caller's options were changed"


@pytest.mark.parametrize(
    "mask",
    [[True] * NUM_ENVS, np.ones(3, bool), np.ones(3), np.ones(NUM_ENVS), np.zeros(NUM_ENVS, bool)],
    ids=["list", "short", "short floats", "floats", "nothing"],
)
def test_a_wrong_mask_is_gymnasiums_error(shared_envs: ProcessVectorEnv, mask: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="reset_mask") as theirs:
        SyncVectorEnv(factories()).reset(options={"reset_mask": mask})
    with pytest.raises(theirs.type, match=r"expected a reset_mask of bool \(5,\).*, got"):
        shared_envs.reset(options={"reset_mask": mask})


def test_the_client_has_to_reset_ended_environments(shared_envs: ProcessVectorEnv) -> None:
    shared_envs.reset(seed=0)
    shared_envs.set_attr("left", [9, 1, 9, 9, 1])
    actions = random_actions(1)[0]
    *_, terminated, truncated, _ = shared_envs.step(actions)
    with pytest.raises(gym.error.ResetNeeded, match=r"whose episodes have ended, \[1 4\], before"):
        shared_envs.step(actions)
    shared_envs.reset(options={"reset_mask": terminated | truncated})
    shared_envs.step(actions)


def test_wrong_actions_are_refused_and_change_nothing(shared_envs: ProcessVectorEnv) -> None:
    shared_envs.reset(seed=0)
    shared_envs.set_attr("actions", [[] for _ in range(NUM_ENVS)])
    for wrong in (np.zeros((5, 2)), np.zeros((4, 2), np.float32), [0, 1], np.float32(1)):
        with pytest.raises(
            gym.error.InvalidAction, match=r"actions of type float32 and shape \(5, 2\), got"
        ):
            shared_envs.step(wrong)
    assert shared_envs.get_attr("actions") == ([],) * NUM_ENVS


def test_attributes_and_methods_of_environments_can_be_read_and_set(
    shared_envs: ProcessVectorEnv,
) -> None:
    shared_envs.reset(seed=0)
    shared_envs.set_attr("left", 4)
    assert shared_envs.get_attr("left") == (4,) * NUM_ENVS
    assert shared_envs.get_attr("index") == (0, 1, 2, 3, 4)
    frames = shared_envs.render()
    assert isinstance(frames, tuple) and [frame.max() for frame in frames] == [4] * NUM_ENVS
    with pytest.raises(ValueError, match="expected 5 values, one per env, got 2"):
        shared_envs.set_attr("left", (1, 2))


def test_an_environment_may_keep_its_action(shared_envs: ProcessVectorEnv) -> None:
    shared_envs.reset(seed=0)
    shared_envs.set_attr("actions", [[] for _ in range(NUM_ENVS)])
    shared_envs.set_attr("left", 9)
    actions = random_actions(3)
    for each in actions:
        shared_envs.step(each)
    np.testing.assert_array_equal(np.stack(shared_envs.get_attr("actions"), axis=1), actions)


def test_observations_are_copies_unless_asked_for_otherwise() -> None:
    actions = random_actions(2)
    for copy in (True, False):
        envs = ProcessVectorEnv(factories(), 2, copy=copy)
        first, _ = envs.reset(seed=0)
        kept = first.copy()
        second, rewards, *_ = envs.step(actions[0])
        assert (first == kept).all() == copy and np.shares_memory(first, second) != copy
        kept = rewards.copy()
        envs.step(actions[1])
        envs.close()
        np.testing.assert_array_equal(rewards, kept)
        assert np.isfinite(first).all(), "the memory went with the workers"


def test_episode_statistics_are_recorded() -> None:
    recorded = []
    for envs in (SyncVectorEnv(factories()), ProcessVectorEnv(factories(), 2)):
        recorder = RecordEpisodeStatistics(envs)
        recorder.reset(seed=0)
        infos = [recorder.step(actions)[-1] for actions in random_actions(30)]
        recorder.close()
        recorded.append((list(recorder.return_queue), list(recorder.length_queue)))
        assert any("episode" in info for info in infos)
    assert recorded[0] == recorded[1] and len(recorded[0][0]) > NUM_ENVS


def test_statistics_outlast_the_reset_of_others() -> None:
    """The vector env must not remove the reset mask, which Gymnasium's wrapper reads later."""
    recorder = RecordEpisodeStatistics(
        ProcessVectorEnv([partial(gym.make, BOX_ID)] * 3, 2, autoreset_mode=AutoresetMode.DISABLED)
    )
    recorder.reset(seed=[0, 1, 2])  # type: ignore[arg-type]  # Gymnasium's omits lists
    for _ in range(episode_length(2)):
        _, _, terminated, *_ = recorder.step(np.zeros((3, 2), np.float32))
        if terminated.any():
            recorder.reset(options={"reset_mask": terminated})
    recorder.close()
    assert list(recorder.length_queue) == [episode_length(seed) for seed in range(3)]


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_envs >= 1 and .*, got num_envs=0 and num_workers=1"):
        ProcessVectorEnv([], 1)
    for num_workers in (-1, 0, 6):
        message = f"1 <= num_workers <= num_envs, got num_envs=5 and num_workers={num_workers}"
        with pytest.raises(ValueError, match=message):
            ProcessVectorEnv(factories(), num_workers)


def test_what_is_no_array_and_what_differs_is_refused() -> None:
    class Wordy(TalkingEnv):
        observation_space = spaces.Text(5)  # type: ignore[assignment]

    class Wider(TalkingEnv):
        observation_space = spaces.Box(-10, 10, (2, 4), np.float32)

    with pytest.raises(gym.error.CustomSpaceError, match=r"expected a Box, .*, got Text"):
        ProcessVectorEnv([lambda: Wordy(0)], 1)
    with pytest.raises(
        RuntimeError, match=r"expected environments with the spaces .*, got .*\(2, 4\)"
    ):
        ProcessVectorEnv([factories(1)[0], lambda: Wider(1)], 2)


def test_the_first_call_is_a_reset_of_all() -> None:
    envs = ProcessVectorEnv(factories(2), 2)
    with pytest.raises(gym.error.ResetNeeded, match="a reset before the first step"):
        envs.step(random_actions(1, 2)[0])
    with pytest.raises(gym.error.ResetNeeded, match="a first reset of all environments"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(options={"reset_mask": np.array([True, True])})
    envs.step(random_actions(1, 2)[0])
    envs.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_without_shared_memory_it_is_named(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number), "/dev/shm/pym-1")

    monkeypatch.setattr("multiprocessing.heap.Arena.__init__", fail)
    # Larger than what may be left of an earlier allocation.
    factories = [partial(TalkingEnv, index) for index in range(40_000)]
    with pytest.raises(SharedMemoryError, match=r"\(/dev/shm\) for [0-9,]+ bytes, .*--workers 1"):
        ProcessVectorEnv(factories, 1)
