"""PPO of Stable-Baselines3 on frames of 64 x 64 pixels, the peer of our agents in games.

PPO gets the last four frames, one per agent step. The settings are those of RL Baselines3 Zoo where
the zoo has settings for the environment, with a CNN in place of the zoo's MLP; other environments
get the zoo's settings for Atari.

Source: https://github.com/DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from envs.make import make_env
from envs.registration import ATARI
from envs.tasks import task_for

STACKED_FRAMES = 4
CURVE_POINTS = 20


@dataclass(frozen=True)
class Settings:
    """Settings of PPO for one environment.

    Attributes:
        linear: names of the settings that fall linearly to zero during training.
        normalize_reward: whether rewards are divided by the standard deviation of returns.
        settings: further arguments of `PPO`.
    """

    num_envs: int
    linear: tuple[str, ...] = ()
    normalize_reward: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


_ATARI = Settings(
    8,
    ("learning_rate", "clip_range"),
    settings={
        "n_steps": 128,
        "n_epochs": 4,
        "batch_size": 256,
        "learning_rate": 2.5e-4,
        "clip_range": 0.1,
        "vf_coef": 0.5,
        "ent_coef": 0.01,
    },
)
ZOO = {
    "CartPole-v1": Settings(
        8,
        ("learning_rate", "clip_range"),
        settings={
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
        },
    ),
    "LunarLander-v3": Settings(
        16,
        settings={
            "n_steps": 1024,
            "batch_size": 64,
            "gae_lambda": 0.98,
            "gamma": 0.999,
            "n_epochs": 4,
            "ent_coef": 0.01,
        },
    ),
    "MiniGrid-DoorKey-5x5-v0": Settings(
        8,
        normalize_reward=True,
        settings={"n_steps": 128, "batch_size": 64, "learning_rate": 2.5e-4},
    ),
    "Acrobot-v1": Settings(
        16, normalize_reward=True, settings={"n_steps": 256, "gae_lambda": 0.94, "n_epochs": 4}
    ),
    "MountainCar-v0": Settings(
        16, normalize_reward=True, settings={"n_steps": 16, "gae_lambda": 0.98, "n_epochs": 4}
    ),
    "Pendulum-v1": Settings(
        4,
        settings={
            "n_steps": 1024,
            "gamma": 0.9,
            "learning_rate": 1e-3,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
    ),
}


class ActionRepeat(gym.Wrapper[Any, Any, Any, Any]):
    """Holds every action for `repeat` env steps, and returns the sum of their rewards."""

    def __init__(self, env: gym.Env[Any, Any], repeat: int) -> None:
        super().__init__(env)
        self.repeat = repeat

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take up to `repeat` env steps, until the episode ends."""
        total = 0.0
        for _ in range(self.repeat):
            frame, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return frame, total, terminated, truncated, info


class Curve(BaseCallback):
    """Records the mean return of the episodes that end in each twentieth of the training."""

    def __init__(self, agent_steps: int, repeat: int) -> None:
        super().__init__()
        self.points: list[list[float]] = []
        self._agent_steps, self._repeat, self._returns = agent_steps, repeat, list[float]()

    def _on_step(self) -> bool:
        self._returns += [i["episode"]["r"] for i in self.locals["infos"] if "episode" in i]
        due = self.num_timesteps >= (len(self.points) + 1) * self._agent_steps / CURVE_POINTS
        if due and self._returns:
            env_steps = self.num_timesteps * self._repeat
            self.points.append([env_steps, float(np.mean(self._returns))])
            self._returns = []
        return True


class PixelPPO:
    """A trained PPO and the environment that it plays."""

    def __init__(self, model: PPO, env_id: str) -> None:
        self.model = model
        self.env_id = env_id

    def returns(self, seeds: Sequence[int]) -> list[float]:
        """Play one episode per seed and return the return of each.

        In Atari games the actions are sampled, as in the zoo; elsewhere the likeliest are taken.
        """
        env = stacked([frame_maker(self.env_id)])
        deterministic = not self.env_id.startswith(ATARI)
        found = []
        for seed in seeds:
            env.seed(seed)
            frames, total, done = np.asarray(env.reset()), 0.0, False
            while not done:
                action, _ = self.model.predict(frames, deterministic=deterministic)
                observed, rewards, dones, _ = env.step(action)
                frames = np.asarray(observed)
                total, done = total + float(rewards[0]), bool(dones[0])
            found.append(total)
        env.close()
        return found


def frame_maker(env_id: str) -> Callable[[], gym.Env[Any, Any]]:
    """Return a function that makes the environment, with frames in the task's view."""
    repeat = task_for(env_id).action_repeat
    return lambda: Monitor(ActionRepeat(make_env(env_id), repeat))


def stacked(makers: Sequence[Callable[[], gym.Env[Any, Any]]]) -> VecEnv:
    """Make a vector environment, whose observations are the last four frames."""
    return VecFrameStack(DummyVecEnv(list(makers)), STACKED_FRAMES)


def train_ppo(env_id: str, env_steps: int, seed: int) -> tuple[PixelPPO, list[list[float]]]:
    """Train PPO; return the player, and its learning curve as pairs of env steps and return."""
    chosen = ZOO.get(env_id, _ATARI)
    repeat = task_for(env_id).action_repeat
    agent_steps = env_steps // repeat
    env = stacked([frame_maker(env_id)] * chosen.num_envs)
    if chosen.normalize_reward:
        env = VecNormalize(env, norm_obs=False, gamma=chosen.settings.get("gamma", 0.99))
    settings = dict(chosen.settings)
    for name in chosen.linear:
        settings[name] = falling(settings[name])
    model = PPO("CnnPolicy", env, seed=seed, device="cpu", **settings)
    curve = Curve(agent_steps, repeat)
    model.learn(agent_steps, callback=curve)
    env.close()
    return PixelPPO(model, env_id), curve.points


def falling(first: float) -> Callable[[float], float]:
    """Return a schedule that falls linearly from `first` to zero."""
    return lambda remaining: remaining * first
