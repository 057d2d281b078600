"""Elites as agents: one V and M, and a C for every cell that was filled, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.elites import Centroids, MapElites
from agents.workers import CHUNK
from worldmodels.controller.agent import Agent, AgentFactory, save_agent
from worldmodels.runs.checkpoint import with_prefix

ELITES_NAME = "elites"  # as their episodes name them


def save_elites(
    path: Path, agent: Agent, search: MapElites, centroids: Centroids, metadata: dict[str, Any]
) -> None:
    """Write V, M, the spec and the C's of all elites, (n, D), in the order of their cells.

    The file also holds `elites.fitness` (n,), `elites.measures` (n, M), `elites.cell` (n,), and the
    `elites.centroids` (N, M) of all cells. `load_agent` gives an agent for n environments, each
    driven by an elite of its own.
    """
    order = np.argsort(search.archive.data("index"))
    parameters, fitness, measures, cells = (
        torch.from_numpy(search.archive.data(name)[order])
        for name in ("solution", "objective", "measures", "index")
    )
    agent.parameters = parameters
    elites = {"fitness": fitness, "measures": measures, "cell": cells.long()}
    elites["centroids"] = torch.from_numpy(centroids)
    save_agent(path, agent, metadata, extra_tensors=with_prefix("elites", elites))


def elite_of(episode: int, num_elites: int) -> int:
    """Which elite plays an episode of this number: all in turn, in another order each time round.

    One order for all times would let the same elites play every tenth episode, which training
    must not see, wherever their number is a multiple of ten.
    """
    turn, place = divmod(episode, num_elites)
    return int(np.random.default_rng(turn).permutation(num_elites)[place])


@dataclass(frozen=True)
class ElitesFactory:
    """Makes the policy of a chunk of episodes, each played by an elite; pickles to a few bytes.

    Which one follows from the episode's seed alone. Without noise: noise on their actions would
    take elites out of the cells they were kept for, and their variety is what they are played for.
    """

    path: Path

    def for_episodes(self, seeds: Sequence[int]) -> Agent:
        """A policy of `CHUNK` rows, row i playing the episode of `seeds[i]`."""
        agent = AgentFactory(self.path)()
        chosen = [elite_of(seed, len(agent.parameters)) for seed in seeds]
        agent.parameters = agent.parameters[torch.from_numpy(np.resize(chosen, CHUNK))]
        agent.name = ELITES_NAME
        return agent
