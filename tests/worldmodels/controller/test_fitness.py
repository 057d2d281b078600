"""A candidate's fitness is the mean return of its dreams or its episodes.

All candidates get common random numbers.
"""

import functools
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.controller import choose_actions
from agents.protocol import EvaluationProtocol, Purpose
from agents.workers import Workers
from envs.tasks import task_for
from tests.fixtures.counting_env import BOX_ID, CountingEnv, episode_length
from tests.fixtures.reward_world import starts
from tests.fixtures.tiny_models import agent
from worldmodels.controller.agent import Agent, save_agent
from worldmodels.controller.fitness import CMAESConfig, DreamFitness, RealFitness
from worldmodels.controller.real_episodes import real_scores
from worldmodels.dream.model import DreamModel
from worldmodels.dream.rollout import dreamed_returns
from worldmodels.dream.starts import StartStates
from worldmodels.errors import UserError
from worldmodels.memory import MDNRNN
from worldmodels.training.fit import step_generator

CONFIG = CMAESConfig(episodes=3, horizon=4)
KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


def dream_fitness(kind: str) -> tuple[DreamFitness, np.ndarray]:
    driver = agent(kind, num_candidates=4)
    dream = DreamModel(driver.vision, driver.memory, temperature=1.2)
    states = StartStates(starts(dream, 30), torch.ones(30))
    fitness = DreamFitness(CONFIG, driver, dream, states, seed=5)
    return fitness, driver.parameters.double().numpy()


@KINDS
def test_a_candidate_is_worth_the_same_whoever_stands_beside_it(kind: str) -> None:
    fitness, candidates = dream_fitness(kind)
    together = fitness(candidates, 0)
    alone = np.concatenate([fitness(candidates[[row]], 0) for row in range(4)])
    assert together == pytest.approx(alone, rel=1e-4)
    assert len(set(together.round(4))) == 4
    assert fitness(candidates[::-1].copy(), 0) == pytest.approx(together[::-1], rel=1e-4)
    assert fitness.steps == 3 * 4 * (4 + 4 + 4)


@KINDS
def test_dreamed_fitness_is_the_mean_return_of_dreams_from_moments_drawn_anew(kind: str) -> None:
    fitness, candidates = dream_fitness(kind)
    for generation in (0, 1):
        noise = step_generator(5, generation)
        parameters = torch.from_numpy(candidates[:1]).float()
        act = functools.partial(
            choose_actions, fitness.controller, fitness.spec.action_map, parameters
        )
        first = fitness.starts.sample(3, noise)
        returns = dreamed_returns(fitness.dream, first, act, 4, noise)[-1]
        fitness_of = fitness(candidates[:1], generation)
        assert fitness_of == pytest.approx(returns.mean().item(), rel=1e-5)
    assert fitness(candidates[:1], 0) != pytest.approx(fitness_of, rel=1e-3)


def test_a_dream_that_leaves_all_bounds_is_named() -> None:
    fitness, candidates = dream_fitness("vae")
    memory = fitness.dream.memory
    assert isinstance(memory, MDNRNN)
    with torch.no_grad():
        memory.outcome.linear.bias.fill_(float("inf"))
    with pytest.raises(UserError, match=r"a dream of generation 2 diverged \(return nan\)"):
        fitness(candidates, 2)


def always(*outputs: float) -> np.ndarray:
    """Make a C whose outputs depend only on its biases."""
    parameters = np.zeros((8 + 1) * 2)
    parameters[-2:] = outputs
    return parameters


def rewards(outputs: tuple[float, float], length: int) -> float:
    """Return the return of an episode with such a C; see `tests.fixtures.counting_env`."""
    action = float(np.tanh(outputs[0]) + 0.5 * np.tanh(outputs[1])) + 0.5
    return 1000.0 * length * (length - 1) / 2 + length * action


@pytest.fixture
def driver() -> Agent:
    return agent("vae", action_map=task_for(BOX_ID).action_map, env_id=BOX_ID)


OUTPUTS = np.random.default_rng(0).uniform(-1, 1, (5, 2))


@pytest.mark.parametrize("generation", [0, 1])
def test_real_fitness_is_what_the_env_pays_on_the_same_tracks_for_all(
    tmp_path: Path, driver: Agent, generation: int
) -> None:
    fitness = RealFitness(CONFIG, driver, Workers(1), 7, tmp_path / "body.safetensors")
    values = fitness(np.array([always(*each) for each in OUTPUTS]), generation)
    # Fifteen episodes fill more than one chunk. At most four agent steps of two steps each.
    tracks = np.random.default_rng([7, generation]).integers(1_000_000, size=3)
    lengths = [min(8, episode_length(int(track))) for track in tracks]
    expected = [np.mean([rewards(each, length) for length in lengths]) for each in OUTPUTS]
    assert values == pytest.approx(expected, abs=0.01)
    assert fitness.steps == 5 * sum(lengths)


def test_an_episode_is_never_longer_than_the_env_s_own(tmp_path: Path, driver: Agent) -> None:
    short = "short/BoxCounting-v0"
    gym.register(
        short,
        entry_point=CountingEnv,  # type: ignore[arg-type]  # EnvCreator has no named parameters
        max_episode_steps=5,
    )
    driver.spec = replace(driver.spec, env_id=short)
    try:
        fitness = RealFitness(CONFIG, driver, Workers(1), 7, tmp_path / "body.safetensors")
        fitness(np.array([always(0.0, 0.0)]), 0)
    finally:
        del gym.registry[short]
    assert CONFIG.horizon * driver.action_repeat > 5
    assert fitness.steps == 5 * CONFIG.episodes


@pytest.mark.parametrize(
    ("purpose", "first"), [("selection", 1_500_000), ("monitoring", 1_600_000)]
)
def test_the_real_score_is_of_whole_episodes_of_the_protocol(
    tmp_path: Path, driver: Agent, purpose: Purpose, first: int
) -> None:
    file = tmp_path / "agent.safetensors"
    save_agent(file, driver, {})
    tracks = range(first, first + 9)
    for outputs in OUTPUTS[:2]:
        protocol = EvaluationProtocol(BOX_ID, purpose, 9)
        scores = real_scores(file, Workers(1), protocol, always(*outputs))
        expected = [rewards(outputs, episode_length(track)) for track in tracks]
        assert scores.returns == pytest.approx(expected, abs=0.01)
        assert scores.env_steps == sum(episode_length(track) for track in tracks)
