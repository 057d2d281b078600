"""A task can be made for any Gymnasium id."""

import gymnasium as gym
import numpy as np
import pytest

from envs.tasks import task_for


def test_a_discrete_task_has_one_baseline_an_action() -> None:
    task = task_for("CartPole-v1")
    assert task.reference_env_id == "CartPole-v1" and task.action_repeat == 1
    assert task.constant_actions == {"always 0": (1.0, 0.0), "always 1": (0.0, 1.0)}
    assert task.action_map.discrete and task.action_map.size == 2


def test_a_box_task_spans_its_bounds() -> None:
    task = task_for("Pendulum-v1")
    np.testing.assert_allclose(task.action_map(np.array([99.0])), [2.0])
    assert task.constant_actions == {}


@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_car_racing_is_scored_in_the_stock_environment(env_id: str) -> None:
    task = task_for(env_id)
    assert (
        task.reference_env_id == "CarRacing-v3" and task.action_repeat == 4 and task.view.size == 64
    )


def test_unknown_ids_get_gymnasiums_own_error() -> None:
    with pytest.raises(gym.error.NameNotFound, match="NoSuchGame"):
        task_for("NoSuchGame-v0")
