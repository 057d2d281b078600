"""A lap of the scripted driver, as an episode: frames to judge models by, never to train agents."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.rollout import Rollout
from envs.make import make_env
from envs.scripted_driver import ScriptedDriver
from envs.tasks import DEFAULT_ENV_ID, task_for


def drive(seed: int, *, action_repeat: int = 1, noise: float = 0.0, **settings: Any) -> Rollout:
    """One episode on the track of `seed`.

    Args:
        action_repeat: frames an action is held, in a car whose driver decides no oftener.
        noise: standard deviation of what is added to steering, half of it to gas and a fifth to
            the brake; correlated in time.
        settings: the driver's.
    """
    env = make_env(DEFAULT_ENV_ID)
    frame, _ = env.reset(seed=seed)
    driver = ScriptedDriver(env, **settings)
    random, correlated_noise = np.random.default_rng(seed), np.zeros(3)
    frames: list[np.ndarray] = [frame.copy()]
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        if len(actions) % action_repeat == 0:
            correlated_noise = 0.8 * correlated_noise + 0.6 * random.standard_normal(3) * (
                1.0,
                0.5,
                0.2,
            )
            action = np.clip(driver.act() + noise * correlated_noise, (-1, 0, 0), (1, 1, 1))
        actions.append(action.astype(np.float32))
        frame, reward, terminated, truncated, _ = env.step(actions[-1])
        frames.append(frame.copy())
        rewards.append(float(reward))
    env.close()
    return Rollout(
        frames=np.stack(frames),
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        terminated=terminated,
        truncated=truncated,
        env_id=DEFAULT_ENV_ID,
        seed=seed,
        policy="scripted driver",
        action_repeat=task_for(DEFAULT_ENV_ID).action_repeat,
    )
