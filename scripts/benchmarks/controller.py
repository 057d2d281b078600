"""What a search for C costs beside its env: the real game and the dream, each beside itself bare.

Real: generations of CMA-ES whose workers play the fast env with V and M inside, beside the same
workers stepping the bare env with a constant action held as long. Dream: generations with the lean
M, beside steps of the bare dream with constant actions. Contenders take turns; a figure is the
median over the turns. One thread a process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from agents.cmaes import CMAES
from agents.controller import ControllerConfig
from agents.workers import Workers
from envs.make import make_env
from envs.tasks import DEFAULT_ENV_ID, task_for
from worldmodels.controller.agent import Agent, AgentSpec
from worldmodels.controller.fitness import CMAESConfig, DreamFitness, RealFitness
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.dream.starts import StartStates
from worldmodels.memory.training import new_memory
from worldmodels.presets import DEMO
from worldmodels.vision import make_vision

KINDS = {"continuous": DEMO.vae, "quantized": DEMO.vqvae}
NUM_ACTIONS = 3
# 32 episodes are four chunks of eight, two a worker.
REAL_POPULATION, REAL_EPISODES, REAL_STEPS = 16, 2, 250
DREAM_POPULATION, DREAM_STARTS, DREAM_STEPS = 64, 16, 40


def agent_of(kind: str) -> Agent:
    """V and M of the demo's sizes, and a linear C; what they have learned changes no speed."""
    torch.manual_seed(0)
    task = task_for(DEFAULT_ENV_ID)
    vision = make_vision(KINDS[kind].model)
    memory = new_memory(DEMO.memory, vision, NUM_ACTIONS)
    action_map = task.action_map
    features = vision.num_features + memory.config.num_hidden
    controller = ControllerConfig(features, action_map.num_outputs)
    spec = AgentSpec(DEFAULT_ENV_ID, task.view, action_map, task.action_repeat)
    return Agent(vision, memory, controller, torch.zeros(1, controller.num_parameters), spec)


def bare_env(seed: int) -> int:
    """Env steps of one worker's share of a generation; the action is a gentle gas."""
    action = np.array([0.0, 0.1, 0.0], np.float32)
    repeat, steps = task_for(DEFAULT_ENV_ID).action_repeat, 0
    for _ in range(REAL_POPULATION * REAL_EPISODES // 4):
        env = make_env(DEFAULT_ENV_ID)
        env.reset(seed=seed)
        for _ in range(REAL_STEPS * repeat):
            _, _, terminated, truncated, _ = env.step(action)
            steps += 1
            if terminated or truncated:
                break
        env.close()
    return steps


def real_turns(kind: str, workers: Workers, folder: Path) -> dict[str, Callable[[], float]]:
    """AgentSteps a second of one generation, searched and bare."""
    agent = agent_of(kind)
    config = CMAESConfig(
        population=REAL_POPULATION,
        episodes=REAL_EPISODES,
        horizon=REAL_STEPS,
        diagonal=True,
    )
    fitness = RealFitness(config, agent, workers, 0, folder / f"{kind}.safetensors")
    search = searching(agent, config)
    repeat = agent.spec.action_repeat

    def generation() -> float:
        before, started = fitness.steps, time.perf_counter()
        advance(search, fitness)
        return (fitness.steps - before) / repeat / (time.perf_counter() - started)

    def bare() -> float:
        started = time.perf_counter()
        steps = sum(workers.map(bare_env, range(4)))
        return steps / repeat / (time.perf_counter() - started)

    return {"search": generation, "bare": bare}


@torch.no_grad()
def dream_turns(kind: str) -> dict[str, Callable[[], float]]:
    """Dreamed agent steps a second of one generation, searched and bare."""
    agent = agent_of(kind)
    config = CMAESConfig(
        population=DREAM_POPULATION,
        episodes=DREAM_STARTS,
        horizon=DREAM_STEPS,
        diagonal=True,
    )
    dream = DreamModel(agent.vision, agent.memory)
    batch = DREAM_POPULATION * DREAM_STARTS
    frames = torch.randint(256, (batch, 64, 64, 3), dtype=torch.uint8)
    latent = agent.vision.mode(agent.vision.encode(frames))
    states = DreamState(latent, agent.memory.initial(batch), torch.ones(batch))
    fitness = DreamFitness(config, agent, dream, StartStates(states, torch.ones(batch)), 0)
    search = searching(agent, config)
    generator, action = torch.Generator().manual_seed(0), torch.rand(batch, NUM_ACTIONS)

    def generation() -> float:
        started = time.perf_counter()
        advance(search, fitness)
        return batch * DREAM_STEPS / (time.perf_counter() - started)

    @torch.no_grad()
    def bare() -> float:
        started, state = time.perf_counter(), states
        for _ in range(DREAM_STEPS):
            state, _ = dream.step(state, action, generator)
        return batch * DREAM_STEPS / (time.perf_counter() - started)

    return {"search": generation, "bare": bare}


def searching(agent: Agent, config: CMAESConfig) -> CMAES:
    return CMAES(
        agent.controller.num_parameters,
        sigma0=config.sigma0,
        population=config.population,
        diagonal=config.diagonal,
    )


def advance(search: CMAES, fitness: RealFitness | DreamFitness) -> None:
    search.tell(fitness(search.ask(), search.generation))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=7, help="of every contender (7)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the real search (2)")


def contests(
    workers: Workers, folder: Path
) -> Iterator[tuple[str, dict[str, Callable[[], float]]]]:
    for kind in KINDS:
        yield f"real game, {kind}", real_turns(kind, workers, folder)
    for kind in KINDS:
        yield f"dream, {kind}", dream_turns(kind)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, return its numbers."""
    torch.set_num_threads(1)
    rows = []
    with Workers(arguments.workers) as workers, tempfile.TemporaryDirectory() as folder:
        for name, turns in contests(workers, Path(folder)):
            for turn in turns.values():
                turn()  # not timed: workers start, buffers are made
            rates: dict[str, list[float]] = {contender: [] for contender in turns}
            for _ in range(arguments.turns):
                for contender, turn in turns.items():
                    rates[contender].append(turn())
            pairs = zip(rates["search"], rates["bare"], strict=True)
            rows.append(
                {
                    "name": name,
                    "agent_steps_per_second": statistics.median(rates["search"]),
                    "bare_agent_steps_per_second": statistics.median(rates["bare"]),
                    "ratio": statistics.median(search / bare for search, bare in pairs),
                }
            )
    show(rows, arguments.workers)
    return {
        "versions": {name: version(name) for name in ("torch", "cma", "gymnasium")},
        "turns": arguments.turns,
        "workers": arguments.workers,
        "rows": rows,
    }


def show(rows: list[dict[str, Any]], workers: int) -> None:
    title = f"CMA-ES for C, agent steps per second; the real game over {workers} worker(s)"
    table = Table(title=title)
    for column in ("where", "search", "bare env or dream", "ratio"):
        table.add_column(column, justify="left" if column == "where" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['agent_steps_per_second']:,.0f}",
            f"{row['bare_agent_steps_per_second']:,.0f}",
            f"{row['ratio']:.2f}",
        )
    Console(width=100).print(table)
