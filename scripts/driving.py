"""A lap of the scripted driver, as an episode: frames that no model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.rollout import Rollout
from envs.make import make_env
from envs.scripted_driver import ScriptedDriver
from envs.tasks import DEFAULT_ENV_ID, task_for


def drive(seed: int, **settings: Any) -> Rollout:
    """One episode on the track of `seed`; `settings` are the driver's."""
    env = make_env(DEFAULT_ENV_ID)
    frame, _ = env.reset(seed=seed)
    driver = ScriptedDriver(env, **settings)
    frames, actions, rewards = [frame.copy()], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        actions.append(driver.act())
        frame, reward, terminated, truncated, _ = env.step(actions[-1])
        frames.append(frame.copy())
        rewards.append(reward)
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
