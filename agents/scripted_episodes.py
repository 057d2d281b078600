"""A lap of the scripted driver, as an episode: frames to judge models by, never to train agents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from agents.policy import EncodedActions, EnvMask, Frames, RepeatingPolicy
from agents.rollout import Rollout, play
from envs.make import make_env
from envs.scripted_driver import ScriptedDriver
from envs.tasks import DEFAULT_ENV_ID, task_for

NOISE_PARTS = (1.0, 0.5, 0.2)  # of the noise, that steering, gas and brake get


class _NoisyDriver(RepeatingPolicy):
    """The scripted driver of one environment, with noise on what it does."""

    def __init__(self, driver: ScriptedDriver, action_repeat: int, noise: float, seed: int) -> None:
        super().__init__(driver.env.action_space, "scripted driver", action_repeat)
        self._driver = driver
        self._noise = noise
        self._generator = np.random.default_rng(seed)
        self._correlated_noise = np.zeros(3)

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """The driver's action, disturbed."""
        drawn = self._generator.standard_normal(3) * NOISE_PARTS
        self._correlated_noise = 0.8 * self._correlated_noise + 0.6 * drawn
        action = self._driver.act() + self._noise * self._correlated_noise
        return np.clip(action, (-1, 0, 0), (1, 1, 1)).astype(np.float32)[None]


def drive(seed: int, *, action_repeat: int = 1, noise: float = 0.0, **settings: Any) -> Rollout:
    """One episode on the track of `seed`.

    Args:
        action_repeat: frames an action is held, in a car whose driver decides no oftener.
        noise: standard deviation of what is added to steering, half of it to gas and a fifth to
            the brake; correlated in time.
        settings: the driver's.
    """
    env = make_env(DEFAULT_ENV_ID)
    policy = _NoisyDriver(ScriptedDriver(env, **settings), action_repeat, noise, seed)
    (rollout,) = play(lambda: env, policy, [seed])
    return replace(rollout, action_repeat=task_for(DEFAULT_ENV_ID).action_repeat)
