"""Any Gymnasium id as a task."""

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
    assert task.constant_actions == {} and len(task.exploration) == 1


@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_car_racing_is_scored_in_the_stock_environment(env_id: str) -> None:
    task = task_for(env_id)
    assert (
        task.reference_env_id == "CarRacing-v3" and task.action_repeat == 4 and task.view.size == 64
    )


def test_exploring_styles_stand_apart() -> None:
    """What each style says on average, as (gas, brake)."""
    task = task_for("CarRacing-v3")
    pedals = {s.name: task.action_map(np.array(s.mean))[1:] for s in task.exploration}
    assert pedals["full gas"][0] > 0.9 and pedals["standing"][1] > 0.9
    assert pedals["driving"][0] > 0 and pedals["braking"][1] > 0
    np.testing.assert_array_equal(pedals["coasting"], 0)


def test_unknown_ids_get_gymnasiums_own_error() -> None:
    with pytest.raises(gym.error.NameNotFound, match="NoSuchGame"):
        task_for("NoSuchGame-v0")
