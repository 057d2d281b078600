"""Agents made of elites; one file holds V, M, and one C for every filled cell of the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from agents.workers import CHUNK
from worldmodels.controller.agent import Agent, AgentFactory

ELITES_NAME = "elites"  # the policy's name in the metadata of its episodes


def elite_of(episode: int, num_elites: int) -> int:
    """The index of the elite that plays the episode with this number.

    A turn consists of `num_elites` episodes. In each turn, every elite plays one episode.

    In each turn, the elites play in a new random order, because every tenth episode is held out
    from training. If all turns had the same order and the number of elites were a multiple of ten,
    the same elites would play all held-out episodes.
    """
    turn, place = divmod(episode, num_elites)
    return int(np.random.default_rng(turn).permutation(num_elites)[place])


@dataclass(frozen=True)
class ElitesFactory:
    """Makes the policy for a chunk of episodes, in which one elite plays each episode.

    A pickled factory takes a few bytes. The elite that plays an episode depends only on the
    episode's seed. Elites are used because their behavior differs. No noise is added to their
    actions, because noise would change the behavior that gave each elite its cell.
    """

    path: Path

    def for_episodes(self, seeds: Sequence[int]) -> Agent:
        """A policy of `CHUNK` rows, in which row i plays the episode with the seed `seeds[i]`."""
        agent = AgentFactory(self.path)()
        chosen = [elite_of(seed, len(agent.parameters)) for seed in seeds]
        agent.parameters = agent.parameters[torch.from_numpy(np.resize(chosen, CHUNK))]
        agent.name = ELITES_NAME
        return agent
