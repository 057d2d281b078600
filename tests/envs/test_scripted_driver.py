"""The scripted driver, which reads the track from the simulator."""

import gymnasium as gym
import numpy as np
import pytest

from envs.car_racing import FastCarRacing
from envs.scripted_driver import ScriptedDriver


def test_the_scripted_driver_drives() -> None:
    returns = []
    for seed in (21, 22):
        env = FastCarRacing()
        env.reset(seed=seed)
        driver = ScriptedDriver(env)
        total, done = 0.0, False
        for _ in range(1000):
            _, reward, done, _, _ = env.step(driver.act())
            total += reward
            if done:
                break
        returns.append(total)
    assert np.mean(returns) > 700


def test_the_scripted_driver_needs_a_track() -> None:
    with pytest.raises(TypeError, match="expected CarRacing with continuous actions"):
        ScriptedDriver(gym.make("CartPole-v1"))
