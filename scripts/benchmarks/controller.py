"""Cost of a search for C: the speed of CMA-ES, compared with that of the env or dream alone.

In the real game, the first contender is CMA-ES, whose workers play the fast env with V, M and C.
The second contender steps the env in the same workers with a constant action, without V, M and C.
In the dream, the first contender is CMA-ES with the lean M. The second contender steps the dream
with constant actions, without a search. Contenders take turns. Each number is the median over the
turns. Each process has one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.cmaes import CMAES
from agents.controller import ControllerConfig
from agents.workers import Workers
from benchmarks.dream import NUM_ACTIONS, some_states
from benchmarks.turns import Work, compare
from envs.make import make_env
from envs.tasks import DEFAULT_ENV_ID, task_for
from worldmodels.controller.agent import Agent, AgentSpec
from worldmodels.controller.fitness import CMAESConfig, DreamFitness, RealFitness
from worldmodels.dream.model import DreamModel
from worldmodels.dream.starts import StartStates
from worldmodels.memory.training import new_memory
from worldmodels.presets import DEMO
from worldmodels.vision import make_vision

KINDS = {"continuous": DEMO.vae, "quantized": DEMO.vqvae}
# 32 episodes are four chunks of eight, two per worker.
REAL_POPULATION, REAL_EPISODES, REAL_STEPS = 16, 2, 250
DREAM_POPULATION, DREAM_STARTS, DREAM_STEPS = 64, 16, 40

OPTIONS = {"--turns": (7, "turns per contender"), "--workers": (2, "processes of the real search")}
PACKAGES = ("torch", "cma", "gymnasium")


def agent_of(kind: str) -> Agent:
    """Make an agent from a linear C and from the untrained V and M of the preset `demo`."""
    torch.manual_seed(0)
    task = task_for(DEFAULT_ENV_ID)
    vision = make_vision(KINDS[kind].model)
    memory = new_memory(DEMO.memory, vision, NUM_ACTIONS)
    features = vision.num_features + memory.config.num_hidden
    controller = ControllerConfig(features, task.action_map.num_outputs)
    spec = AgentSpec(DEFAULT_ENV_ID, task.view, task.action_map, task.action_repeat)
    return Agent(vision, memory, controller, torch.zeros(1, controller.num_parameters), spec)


def bare_env(seed: int) -> int:
    """Play a quarter of a generation's episodes, with gentle gas; return the number of steps."""
    action = np.array([0.0, 0.1, 0.0], np.float32)
    env, steps = make_env(DEFAULT_ENV_ID), 0
    for _ in range(REAL_POPULATION * REAL_EPISODES // 4):
        env.reset(seed=seed)
        for _ in range(REAL_STEPS * task_for(DEFAULT_ENV_ID).action_repeat):
            _, _, terminated, truncated, _ = env.step(action)
            steps += 1
            if terminated or truncated:
                break
    env.close()
    return steps


def real_game(kind: str, workers: Workers, folder: Path) -> tuple[Work, Work]:
    """Return two contenders for the real game: one generation of CMA-ES, and the env alone."""
    agent = agent_of(kind)
    config = CMAESConfig(population=REAL_POPULATION, episodes=REAL_EPISODES, horizon=REAL_STEPS)
    fitness = RealFitness(config, agent, workers, 0, folder / f"{kind}.safetensors")
    search = new_search(agent, config)
    repeat = agent.spec.action_repeat

    def generation() -> float:
        before = fitness.steps
        search.tell(fitness(search.ask(), search.generation))
        return (fitness.steps - before) / repeat

    def bare() -> float:
        return sum(workers.map(bare_env, range(4))) / repeat

    return generation, bare


@torch.no_grad()
def dream(kind: str) -> tuple[Work, Work]:
    """Return two contenders for the dream: one generation of CMA-ES, and the dream alone."""
    agent = agent_of(kind)
    config = CMAESConfig(population=DREAM_POPULATION, episodes=DREAM_STARTS, horizon=DREAM_STEPS)
    dream = DreamModel(agent.vision, agent.memory)
    batch = DREAM_POPULATION * DREAM_STARTS
    states = some_states(dream, batch)
    fitness = DreamFitness(config, agent, dream, StartStates(states, torch.ones(batch)), 0)
    search = new_search(agent, config)
    generator, action = torch.Generator().manual_seed(0), torch.rand(batch, NUM_ACTIONS)

    def generation() -> float:
        search.tell(fitness(search.ask(), search.generation))
        return batch * DREAM_STEPS

    @torch.no_grad()
    def bare() -> float:
        state = states
        for _ in range(DREAM_STEPS):
            state, _ = dream.step(state, action, generator)
        return batch * DREAM_STEPS

    return generation, bare


def new_search(agent: Agent, config: CMAESConfig) -> CMAES:
    return CMAES(agent.controller.num_parameters, population=config.population, diagonal=True)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    with Workers(arguments.workers) as workers, tempfile.TemporaryDirectory() as folder:
        contests = [
            *((f"real game, {kind}", *real_game(kind, workers, Path(folder))) for kind in KINDS),
            *((f"dream, {kind}", *dream(kind)) for kind in KINDS),
        ]
        where = f"the real game over {arguments.workers} worker(s)"
        title = f"CMA-ES for C, agent steps per second; {where}"
        headings = ("where", "search", "bare env or dream")
        return {"rows": compare(title, headings, contests, arguments.turns)}
