"""Any Gymnasium id as a task and as an environment of small frames."""

import gymnasium as gym
import numpy as np
import pytest

from envs.actions import UnsupportedActionSpace
from envs.tasks import make_env, task_for


def test_cartpole_becomes_pixels_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    env = make_env("CartPole-v1", render_mode="rgb_array", max_episode_steps=7)
    first, _ = env.reset(seed=0)
    assert first in env.observation_space and first.shape == (64, 64, 3)
    assert first.std() > 0, "the cart is not to be seen"
    for _ in range(5):  # one step moves the cart by less than a level
        later, *_ = env.step(1)
    assert (first != later).any()
    assert env.render().shape == (400, 600, 3)
    assert env.spec is not None and env.spec.max_episode_steps == 7
    env.close()


def test_a_discrete_task_has_one_baseline_an_action() -> None:
    task = task_for("CartPole-v1")
    assert task.stock_id == "CartPole-v1" and task.action_repeat == 1
    assert task.constant_actions == {"always 0": (1.0, 0.0), "always 1": (0.0, 1.0)}
    assert task.action_map.discrete and task.action_size == 2


def test_a_box_task_spans_its_bounds() -> None:
    task = task_for("Pendulum-v1")
    np.testing.assert_allclose(task.action_map(np.array([99.0])), [2.0])
    assert task.constant_actions == {} and len(task.exploration) == 1


@pytest.mark.parametrize("env_id", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_car_racing_is_scored_in_the_stock_environment(env_id: str) -> None:
    task = task_for(env_id)
    assert task.stock_id == "CarRacing-v3" and task.action_repeat == 4 and task.frame_size == 64
    env = make_env(env_id, render_mode="rgb_array")
    assert env.spec is not None and env.spec.max_episode_steps == 1000
    frame, _ = env.reset(seed=1)
    assert frame.shape == (64, 64, 3) and env.render().shape == (400, 600, 3)
    for action in task.constant_actions.values():
        assert np.array(action, np.float32) in env.action_space
    env.close()


def test_exploring_styles_stand_apart() -> None:
    """What each style says on average, as (gas, brake)."""
    task = task_for("CarRacing-v3")
    pedals = {s.name: task.action_map(np.array(s.mean))[1:] for s in task.exploration}
    assert pedals["full gas"][0] > 0.9 and pedals["standing"][1] > 0.9
    assert pedals["driving"][0] > 0 and pedals["braking"][1] > 0
    np.testing.assert_array_equal(pedals["coasting"], 0)


def test_unknown_ids_get_gymnasiums_own_error() -> None:
    for ask in (make_env, task_for):
        with pytest.raises(gym.error.NameNotFound, match="NoSuchGame"):
            ask("NoSuchGame-v0")


def test_what_cannot_be_acted_in_or_seen_is_refused() -> None:
    gym.register("Many-v0", lambda render_mode=None: _Bare(gym.spaces.MultiDiscrete([2, 2])))
    gym.register("Blind-v0", lambda render_mode=None: _Bare(gym.spaces.Discrete(2)))
    with pytest.raises(UnsupportedActionSpace, match="MultiDiscrete"):
        make_env("Many-v0")
    with pytest.raises(gym.error.UnsupportedMode, match="to observe or to draw pixels"):
        make_env("Blind-v0")
    with pytest.raises(gym.error.UnsupportedMode, match='expected render_mode None or "rgb_array"'):
        make_env("CartPole-v1", render_mode="human")


class _Bare(gym.Env):  # type: ignore[type-arg]
    """An environment that cannot be drawn."""

    observation_space = gym.spaces.Box(0, 1, (4,))

    def __init__(self, action_space: gym.Space) -> None:  # type: ignore[type-arg]
        self.action_space = action_space
