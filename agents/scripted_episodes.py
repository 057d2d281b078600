"""Episodes of the scripted driver, on which models are evaluated; no agent is trained on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from agents.policy import EncodedActions, EnvMask, Frames, RepeatingPolicy
from agents.rollout import Rollout, play
from envs.make import make_env
from envs.scripted_driver import ScriptedDriver
from envs.tasks import DEFAULT_ENV_ID, task_for

NOISE_PARTS = (1.0, 0.5, 0.2)  # factors of the noise on steering, gas and brake


class _NoisyDriver(RepeatingPolicy):
    """The scripted driver of one environment as a policy, with noise on the actions."""

    def __init__(self, driver: ScriptedDriver, action_repeat: int, noise: float, seed: int) -> None:
        super().__init__(driver.env.action_space, "scripted driver", action_repeat)
        self._driver = driver
        self._noise = noise
        self._generator = np.random.default_rng(seed)
        self._correlated_noise = np.zeros(3)

    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """Return the driver's action plus noise."""
        drawn = self._generator.standard_normal(3) * NOISE_PARTS
        self._correlated_noise = 0.8 * self._correlated_noise + 0.6 * drawn
        action = self._driver.act() + self._noise * self._correlated_noise
        return np.clip(action, (-1, 0, 0), (1, 1, 1)).astype(np.float32)[None]


def drive(seed: int, *, action_repeat: int = 1, noise: float = 0.0, **settings: Any) -> Rollout:
    """Drive one episode on the track of `seed`.

    Args:
        action_repeat: number of env steps for which an action is held. While an action is held, the
            driver selects no other action.
        noise: standard deviation of the noise on steering. On gas, the standard deviation is half
            as large. On the brake, it is a fifth as large. The noise is correlated in time.
        settings: keyword arguments of `ScriptedDriver`.
    """
    env = make_env(DEFAULT_ENV_ID)
    policy = _NoisyDriver(ScriptedDriver(env, **settings), action_repeat, noise, seed)
    (rollout,) = play(lambda: env, policy, [seed])
    return replace(rollout, action_repeat=task_for(DEFAULT_ENV_ID).action_repeat)
