"""Checks of environments, and the error line that names the step at which a check failed."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs.actions import UnsupportedActionSpace
from envs.config import EnvConfig
from envs.errors import EnvError
from envs.make import make_env, make_envs
from tests.fixtures.odd_envs import ODD_ID, STEPS


def odd(**kwargs: Any) -> gym.Env[Any, Any]:
    return make_env(EnvConfig(ODD_ID, kwargs))


def test_rewards_and_ends_may_be_arrays_of_one_element() -> None:
    env = odd(reward="array")
    env.reset(seed=0)
    for step in range(1, STEPS + 1):
        _, *results, _ = env.step(0)
        assert results == [float(step), step == STEPS, False]
        assert [type(result) for result in results] == [float, bool, bool]


@pytest.mark.parametrize(
    ("reward", "shown"),
    [
        *(("nan", "nan"), ("inf", "-inf"), ("complex", "1j"), ("pair", r"array\(\[0\., 0\.\]\)")),
        *(("none", "None"), ("large", "1e\\+300")),
    ],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_rewards_that_are_no_finite_number_are_refused(
    reward: str, shown: str, num_workers: int
) -> None:
    config = EnvConfig(ODD_ID, {"reward": reward, "bad_step": 2})
    envs = make_envs(1, num_workers, env_id=config)
    envs.reset(seed=7)
    envs.step(np.array([0]))
    words = rf"Odd-v0 .*episode of seed 7, step 2: expected a reward that is .*, got .*{shown}"
    with pytest.raises(EnvError, match=words):
        envs.step(np.array([0]))
    envs.close()


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("step", r"step 3: step\(\) raised ZeroDivisionError: division by zero \(.*odd_envs.py, "),
        ("results", "step 3: expected step.. to return observation, .* got 4 items"),
    ],
)
def test_what_a_step_gets_wrong_is_one_line_with_its_place(fails: str, words: str) -> None:
    env = odd(fails=fails, bad_step=3)
    env.reset(seed=5)
    env.step(0)
    env.step(0)
    with pytest.raises(EnvError, match=words) as caught:
        env.step(0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_reset_raises_is_one_line() -> None:
    with pytest.raises(EnvError, match=r"seed 5, step 0: reset\(\) raised KeyError: 'level'"):
        odd(fails="reset").reset(seed=5)


def test_spaces_that_are_not_declared_and_a_close_that_raises() -> None:
    env = make_env(EnvConfig("tests.fixtures.odd_envs:OddBare-v0"))
    assert env.reset(seed=5)[0].shape == (64, 64, 3)  # what comes is a picture
    with pytest.raises(EnvError, match=r"seed 5, step 0: close\(\) raised OSError: the license"):
        env.close()
    config = EnvConfig("tests.fixtures.odd_envs:OddBare-v0", {"has_actions": False})
    with pytest.raises(UnsupportedActionSpace, match="to have an action_space, got none"):
        make_env(config)
