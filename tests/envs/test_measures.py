"""Measures that distinguish episodes: the car's speed in the physics, and executed actions."""

import functools
import math
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.policy import ConstantPolicy, RandomPolicy
from agents.rollout import play, play_scores
from envs.measures import Magnitude, Measure, hull_speed
from envs.tasks import task_for
from tests.fixtures.counting_env import BOX_ID, DISCRETE_ID


@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_speed_is_the_hull_s_and_comes_from_its_moves(env_id: str) -> None:
    env = gym.make(env_id)
    env.reset(seed=0)
    shape = env.observation_space.shape
    assert shape is not None
    black = np.zeros(shape, np.uint8)
    unwrapped: Any = env.unwrapped
    unwrapped._render = lambda mode: black.copy()  # slow in the stock env, and not looked at
    speed = task_for(env_id).measures[0]
    assert (speed.name, speed.read) == ("speed", hull_speed)
    action = np.array([0.2, 1.0, 0.0], np.float32)
    for _ in range(60):
        before = tuple(unwrapped.car.hull.position)
        env.step(action)
        hull = unwrapped.car.hull
        assert speed.read(env, action) == pytest.approx(math.hypot(*hull.linearVelocity))
    # By 50 steps a second of physics; the tyres' friction turns it a little within the step.
    moved = 50 * math.hypot(*(now - then for now, then in zip(hull.position, before, strict=True)))
    assert 20 < speed.read(env, action) == pytest.approx(moved, rel=0.05)


def test_steering_is_what_was_executed_to_either_side() -> None:
    steering = task_for("CarRacing-v3").measures[1]
    assert steering.name == "steering" and steering.label == "steering"
    env = gym.make(BOX_ID)
    assert steering.read(env, np.array([-0.7, 1, 0], np.float32)) == pytest.approx(0.7)


def test_any_env_is_measured_by_its_actions() -> None:
    box = task_for(BOX_ID).measures
    assert [(m.name, m.low, m.high) for m in box] == [("action 0", 0, 1), ("action 1", 0, 1)]
    assert box[0].label == "action 0 (magnitude)"
    choice = task_for(DISCRETE_ID).measures
    assert [m.name for m in choice] == ["action 1", "action 2"]  # it starts at 1
    assert [m.name for m in task_for("CartPole-v1").measures] == ["action 0"]
    (torque,) = task_for("Pendulum-v1").measures
    assert (torque.low, torque.high) == (0, 2)


def test_an_episode_s_measures_are_means_over_its_steps() -> None:
    make = functools.partial(gym.make, DISCRETE_ID)
    policy = RandomPolicy(make().action_space, action_repeat=2)
    rollouts = play(make, policy, [3, 5])
    scores = play_scores(make, policy, [3, 5], measures=task_for(DISCRETE_ID).measures)
    assert rollouts[0].num_steps != rollouts[1].num_steps
    for rollout, score in zip(rollouts, scores, strict=True):
        fractions = rollout.actions.mean(axis=0)[:2]
        assert score.measures == pytest.approx(fractions)
    assert scores[0].measures != scores[1].measures


def test_measures_leave_the_score_as_it_is_and_none_are_taken_unasked() -> None:
    make = functools.partial(gym.make, BOX_ID)
    policy = ConstantPolicy(make().action_space, [-0.5, 0.25], "constant")
    (plain,) = play_scores(make, policy, [1])
    (measured,) = play_scores(make, policy, [1], measures=task_for(BOX_ID).measures)
    assert plain.measures == () and measured.measures == pytest.approx((0.5, 0.25))
    assert measured.episode_return == plain.episode_return


def test_measures_go_to_workers() -> None:
    for env_id in ("CarRacing-v3", BOX_ID, DISCRETE_ID):
        measures = task_for(env_id).measures
        assert pickle.loads(pickle.dumps(measures)) == measures


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"low < high .* 'x', got low 1.0 and high 1.0"):
        Measure("x", "", 1.0, 1.0, Magnitude(0))
