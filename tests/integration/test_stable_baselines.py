"""A dream passes the checks of Stable-Baselines3, and the library's PPO learns in the dream."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

from tests.fixtures import bead_env
from tests.fixtures.command import wm_json
from worldmodels.memory.training import MemoryModelConfig, MemoryStageConfig
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import VisionStageConfig, train_vision
from worldmodels.training.fit import FitConfig
from worldmodels.vision import VAEConfig

pytestmark = pytest.mark.slow

HORIZON = 40
SEEDS = range(100)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, because a batch of one row is too small for several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gymnasium.Env[Any, Any]]:
    """Collect and train a run, and make one dream of the run."""
    folder = tmp_path_factory.mktemp("runs") / "bead"
    episodes = ("--episodes", 60, "--max-steps", 60, "--workers", 1)
    wm_json("collect", "--run", folder, "--preset", "tiny", "--env", bead_env.ID, *episodes)
    run, report = Run(folder), Report(quiet=True)
    small = VAEConfig(num_latents=3, network="lean", channels=16, kl_weight=0.1)
    fit = FitConfig(300, 64, learning_rate=1e-3, final_learning_rate=1e-4, max_gradient_norm=1.0)
    output = train_vision(run, VisionStageConfig(model=small, fit=fit, later=fit), report=report)
    assert output["gain"] > 5
    fit = replace(fit, learning_rate=3e-3, final_learning_rate=3e-4)
    memory = MemoryStageConfig(
        fit=fit,
        later=fit,
        model=MemoryModelConfig(
            num_hidden=32, num_mixtures=1, predict_change=True, reward_weight=5.0
        ),
    )
    output = train_memory(run, memory, report=report)
    assert output["reward_r2"] > 0.9
    env = gymnasium.make("worldmodels/Dream-v0", run=str(folder), horizon=HORIZON)
    yield env
    env.close()


def dreamed_returns(dream: gymnasium.Env[Any, Any], model: PPO) -> np.ndarray:
    """Return the return of one dream per seed, float64 (seeds,)."""
    totals = []
    for seed in SEEDS:
        observation, _ = dream.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = dream.step(action)
            total, over = total + float(reward), terminated or truncated
        totals.append(total)
    return np.array(totals)


def real_returns(dream: gymnasium.Env[Any, Any], model: PPO) -> np.ndarray:
    """Return the return of one real episode per seed, float64 (seeds,).

    The episodes end at the horizon of the dream.
    """
    unwrapped: Any = dream.unwrapped
    world = unwrapped.dreams.world
    env, totals = bead_env.BeadEnv(), np.zeros(len(SEEDS))
    for row, seed in enumerate(SEEDS):
        frame, _ = env.reset(seed=seed)
        state = world.memory.initial(1)
        for _ in range(HORIZON):
            latent = world.vision.mode(world.vision.encode(torch.from_numpy(frame[None])))
            features = torch.cat([world.vision.features(latent), state.h], dim=-1)
            action, _ = model.predict(features.numpy()[0], deterministic=True)
            state = world.memory.advance(state, latent, torch.from_numpy(action[None]))
            frame, reward, *_ = env.step(action)
            totals[row] += reward
    return totals


@pytest.mark.filterwarnings("error")
def test_its_checks_find_nothing_wrong_with_a_dream(dream: gymnasium.Env[Any, Any]) -> None:
    check_env(dream, skip_render_check=False)


@torch.no_grad()
def measured(dream: gymnasium.Env[Any, Any], model: PPO) -> dict[str, np.ndarray]:
    return {"dreamed": dreamed_returns(dream, model), "real": real_returns(dream, model)}


def test_ppo_learns_in_a_dream_what_holds_in_the_env(dream: gymnasium.Env[Any, Any]) -> None:
    model = PPO("MlpPolicy", dream, seed=0, device="cpu")
    before = measured(dream, model)
    model.learn(20_000)
    after = measured(dream, model)
    for kind, trained in after.items():
        gain = trained - before[kind]  # on the same seeds
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        print(f"{kind} {before[kind].mean():.1f}, {trained.mean():.1f} after, +- {error:.2f}")
        assert gain.mean() > 5 * error
        assert trained.mean() <= HORIZON, "the env pays 1 a step at most"
