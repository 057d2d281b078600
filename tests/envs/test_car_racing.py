"""The fast CarRacing equals Gymnasium's CarRacing, except that its frames differ slightly."""

import gc
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.box2d.car_dynamics import Car
from gymnasium.envs.box2d.car_racing import CarRacing
from gymnasium.utils.env_checker import check_env

from envs import car_physics
from envs.car_racing import FastCarRacing
from envs.scripted_driver import ScriptedDriver


def state_of(env: CarRacing) -> list[float]:
    """Return the state of the car, and numbers that depend on the touched tiles."""
    assert env.car is not None
    numbers: list[float] = [env.tile_visited_count, env.t, env.reward]
    for body in (env.car.hull, *env.car.wheels):
        numbers += [*body.position, body.angle, *body.linearVelocity, body.angularVelocity]
    for wheel in env.car.wheels:
        numbers += [wheel.omega, wheel.phase, wheel.joint.angle, len(wheel.tiles)]
    return numbers


@pytest.fixture(scope="module")
def stock_and_fast() -> tuple[CarRacing, FastCarRacing]:
    """Return one environment of each kind, which all tests use.

    An episode can change the world for later episodes. These changes must not differ either.
    """
    stock = CarRacing()
    # The slow part, which is not compared.
    stock._render = lambda mode: np.zeros((96, 96, 3), np.uint8)  # type: ignore[method-assign]
    return stock, FastCarRacing()


@pytest.mark.parametrize("policy", ["random", "scripted"])
@pytest.mark.parametrize("seed", range(20))
def test_physics_rewards_and_ends_are_gymnasiums_bit_for_bit(
    seed: int, policy: str, stock_and_fast: tuple[CarRacing, FastCarRacing]
) -> None:
    stock, fast = stock_and_fast
    stock.reset(seed=seed)
    fast.reset(seed=seed)
    assert stock.track == fast.track
    assert state_of(stock) == state_of(fast)
    driver = ScriptedDriver(fast)
    fast.action_space.seed(seed)
    for _ in range(1000):
        action = driver.act() if policy == "scripted" else fast.action_space.sample()
        ours, theirs = fast.step(action), stock.step(action)
        assert ours[1:] == theirs[1:]
        assert state_of(stock) == state_of(fast)
        if ours[2]:
            break
    if policy == "scripted":
        assert fast.tile_visited_count > 100, "the comparison hardly left the start"


def test_a_lap_ends_as_in_gymnasium() -> None:
    ends = []
    for make in (CarRacing, FastCarRacing):
        env = make()
        env._render = lambda mode: np.zeros((96, 96, 3), np.uint8)  # type: ignore[method-assign]
        env.reset(seed=3)
        assert env.car is not None
        # The car is put on one tile after the other; visiting the last ends the lap.
        steps, terminated, info = 0, False, {}
        while not terminated:
            road: Any = env.road
            centre = np.mean(road[steps].fixtures[0].shape.vertices, axis=0)
            for body in (env.car.hull, *env.car.wheels):
                body.position = tuple(centre)
            _, _, terminated, _, info = env.step(np.zeros(3, np.float32))
            steps += 1
        ends.append((steps, info, state_of(env)))
    assert ends[0] == ends[1]
    assert ends[0][1] == {"lap_finished": True}


def test_skid_marks_are_gymnasiums(stock_and_fast: tuple[CarRacing, FastCarRacing]) -> None:
    for env in stock_and_fast:
        env.reset(seed=2)
        for step in range(150):
            turn = 1.0 if step % 60 < 30 else -1.0
            env.step(np.array([turn, 1.0, 0.0 if step < 100 else 1.0], np.float32))
    stock, fast = (env.car.particles for env in stock_and_fast if env.car is not None)
    assert len(stock) > 5
    assert [(mark.poly, mark.grass) for mark in stock] == [(m.poly, m.grass) for m in fast]


def test_the_installed_gymnasium_is_one_whose_car_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    assert type(env.car) is not Car, "its source has changed: compare it with envs.car_physics"
    monkeypatch.setattr(car_physics, "_IS_KNOWN", False)
    env.reset(seed=0)
    assert type(env.car) is Car


def test_leaving_the_playfield_ends_the_episode_as_in_gymnasium() -> None:
    fast = FastCarRacing()
    fast.reset(seed=0)
    assert fast.car is not None
    fast.car.hull.position = (400.0, 0.0)
    _, reward, terminated, truncated, info = fast.step(np.zeros(3, np.float32))
    assert (reward, terminated, truncated, info) == (-100, True, False, {"lap_finished": False})


def complaints_about(env: gym.Env) -> list[str]:
    """Return the warnings of Gymnasium's checker."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("options", [{}, {"continuous": False}, {"domain_randomize": True}])
@pytest.mark.parametrize("view", ["paper", "stock"])
def test_gymnasiums_checker_finds_no_more_than_in_its_own(
    view: str, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The checker tries every render mode, a window on the screen included.
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    ours = gym.make("worldmodels/CarRacing-v3", view=view, render_mode="rgb_array", **options)
    theirs = gym.make("CarRacing-v3", render_mode="rgb_array", **options)
    allowed = [message.replace("CarRacing-v3", "") for message in complaints_about(theirs)]
    for message in complaints_about(ours):
        assert message.replace("worldmodels/CarRacing-v3", "") in allowed


def test_it_is_registered_as_gymnasiums_is() -> None:
    ours, theirs = gym.spec("worldmodels/CarRacing-v3"), gym.spec("CarRacing-v3")
    assert (ours.max_episode_steps, ours.reward_threshold) == (
        theirs.max_episode_steps,
        theirs.reward_threshold,
    )


def test_importing_worldmodels_registers_it() -> None:
    make = "import worldmodels, gymnasium; gymnasium.spec('worldmodels/CarRacing-v3')"
    subprocess.run([sys.executable, "-c", make], check=True)


def test_render_gives_gymnasiums_large_picture() -> None:
    ours = FastCarRacing(render_mode="rgb_array")
    ours.reset(seed=1)
    large = ours.render()  # type: ignore[no-untyped-call]
    assert large.shape == (400, 600, 3)
    np.testing.assert_array_equal(large, CarRacing._render(ours, "rgb_array"))


def test_discrete_actions_drive_as_gymnasiums() -> None:
    stock, fast = CarRacing(continuous=False), FastCarRacing(continuous=False)
    stock._render = lambda mode: np.zeros((96, 96, 3), np.uint8)  # type: ignore[method-assign]
    stock.reset(seed=0)
    fast.reset(seed=0)
    for action in (3, 3, 3, 1, 2, 4, 0) * 10:
        ours, theirs = fast.step(action), stock.step(action)
        assert ours[0] in fast.observation_space
        assert ours[1:] == theirs[1:]
        assert state_of(stock) == state_of(fast)


@pytest.mark.parametrize(
    "action",
    [
        [0.0, 0.5],
        [[0.0, 0.5, 0.0]],
        [np.nan, 0.5, 0.0],
        [0.0, np.inf, 0.0],
        [0.0, -0.1, 0.0],
        [1.5, 0.5, 0.0],
        3,
        "left",
        None,
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(action: object) -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    before = state_of(env)
    with pytest.raises(gym.error.InvalidAction, match=r"expected an action of three .*got"):
        env.step(action if action is None else np.array(action))
    assert state_of(env) == before


def test_a_wrong_discrete_action_is_refused() -> None:
    env = FastCarRacing(continuous=False)
    env.reset(seed=0)
    for action in (5, None):
        with pytest.raises(gym.error.InvalidAction, match="Discrete"):
            env.step(action)


def test_a_step_before_reset_is_refused() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="expected a reset"):
        FastCarRacing().step(np.zeros(3, np.float32))


def test_a_step_after_close_is_refused_and_reset_opens_again() -> None:
    env = FastCarRacing()
    env.reset(seed=0)
    env.close()
    with pytest.raises(gym.error.ResetNeeded, match="expected a reset"):
        env.step(np.zeros(3, np.float32))
    env.reset(seed=0)
    assert env.step(np.zeros(3, np.float32))[0] in env.observation_space


def test_closed_environments_leave_no_bodies_behind() -> None:
    def bodies_after(count: int) -> int:
        for seed in range(count):
            env = gym.make("worldmodels/CarRacing-v3")
            env.reset(seed=seed)
            env.step(np.array([0.0, 1.0, 0.0], np.float32))
            env.close()
        gc.collect()
        return sum(type(thing).__name__ == "b2Body" for thing in gc.get_objects())

    first = bodies_after(1)
    assert bodies_after(3) <= first


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(gym.error.UnsupportedMode, match=r"a view among .*'paper'.*got 'big'"):
        gym.make("worldmodels/CarRacing-v3", view="big")
