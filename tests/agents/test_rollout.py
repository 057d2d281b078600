import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.policy import ConstantPolicy, RandomPolicy
from agents.rollout import Rollout, play, play_scores
from tests.fixtures.counting_env import BOX_ID, DISCRETE_ID, CountingEnv, episode_length, read_frame

make_box = functools.partial(gym.make, BOX_ID)
make_discrete = functools.partial(gym.make, DISCRETE_ID)


def box_policy(action_repeat: int = 1) -> RandomPolicy:
    return RandomPolicy(make_box().action_space, action_repeat)


@pytest.mark.parametrize("make", [make_box, make_discrete], ids=["box", "discrete"])
def test_frames_actions_and_rewards_are_aligned(make: Callable[[], gym.Env[Any, Any]]) -> None:
    env = make()
    rollouts = play(make, RandomPolicy(env.action_space, action_repeat=2), [11, 6, 999_999])
    assert [rollout.seed for rollout in rollouts] == [11, 6, 999_999]
    for rollout in rollouts:
        steps = episode_length(rollout.seed)
        shown = [read_frame(frame) for frame in rollout.frames]
        assert shown == [(step, rollout.seed) for step in range(steps + 1)]
        executed = (
            rollout.actions @ [1, 2, 3] if make is make_discrete else rollout.actions.sum(axis=1)
        )
        assert rollout.rewards == pytest.approx(1000 * np.arange(steps) + executed)
        assert (rollout.terminated, rollout.truncated) == (True, False)
        assert rollout.num_steps == steps
        assert rollout.episode_return == pytest.approx(rollout.rewards.sum())
        held = rollout.actions[: steps // 2 * 2].reshape(-1, 2, rollout.actions.shape[1])
        assert np.array_equal(held[:, 0], held[:, 1])
        assert not np.array_equal(rollout.actions[1], rollout.actions[2])


def test_an_ended_episode_keeps_its_last_frame_and_padding_is_black() -> None:
    seen = []

    class Watching(ConstantPolicy):
        def select_actions(self, frames: np.ndarray, due: np.ndarray) -> np.ndarray:
            seen.append(frames)
            return super().select_actions(frames, due)

    policy = Watching(make_box().action_space, [0, 0], "watching")
    play(make_box, policy, [0, 6], batch_size=3)  # 5 and 11 steps
    assert [frames.shape[0] for frames in seen] == [3] * 11
    assert [read_frame(frames[0])[0] for frames in seen] == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5]
    assert [read_frame(frames[1])[0] for frames in seen] == list(range(11))
    assert not np.any([frames[2] for frames in seen])


def test_max_steps_truncates_and_an_end_at_that_step_is_no_truncation() -> None:
    first, second = play(make_box, box_policy(), [0, 6], max_steps=5)
    assert (first.num_steps, first.terminated, first.truncated) == (5, True, False)
    assert (second.num_steps, second.terminated, second.truncated) == (5, False, True)
    assert len(second.frames) == 6


def test_scores_agree_with_rollouts() -> None:
    rollouts = play(make_box, box_policy(), [3, 4])
    scores = play_scores(make_box, box_policy(), [3, 4])
    for rollout, score in zip(rollouts, scores, strict=True):
        assert score.episode_return == rollout.episode_return
        assert (score.num_steps, score.seed) == (rollout.num_steps, rollout.seed)
        assert (score.env_id, score.policy) == ("CountingBox-v0", "random")


def test_envs_are_closed_also_when_a_policy_fails() -> None:
    open_before = CountingEnv.num_open

    class Failing(ConstantPolicy):
        def select_actions(self, frames: np.ndarray, due: np.ndarray) -> np.ndarray:
            raise RuntimeError("no idea what to do")

    env = make_box()
    with pytest.raises(RuntimeError, match="no idea"):
        play(make_box, Failing(env.action_space, [0, 0], "failing"), [0, 1])
    env.close()
    assert CountingEnv.num_open == open_before


def test_a_rollout_refuses_arrays_that_do_not_fit(unchecked: None) -> None:
    good: dict[str, Any] = {
        "frames": np.zeros((4, 2, 2, 3), np.uint8),
        "actions": np.zeros((3, 1), np.float32),
        "rewards": np.zeros(3, np.float32),
        "terminated": True,
        "truncated": False,
        "env_id": "x",
        "seed": 0,
        "policy": "x",
        "action_repeat": 1,
    }
    Rollout(**good)
    with pytest.raises(ValueError, match="expected frames as uint8 with 4 axes and length 4"):
        Rollout(**{**good, "frames": np.zeros((3, 2, 2, 3), np.uint8)})
    with pytest.raises(ValueError, match="expected actions as float32"):
        Rollout(**{**good, "actions": np.zeros((3, 1))})
    with pytest.raises(ValueError, match=r"expected 1 to 1 seeds \(the batch size\), got 2"):
        play(make_box, box_policy(), [1, 2], batch_size=1)
