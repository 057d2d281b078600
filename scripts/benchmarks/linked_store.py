"""Runs with a few driven episodes, and with any number of hard links to these episodes."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.rollout import Rollout
from agents.scripted_episodes import drive
from envs.tasks import DEFAULT_ENV_ID
from worldmodels.data.store import EpisodeStore, file_name
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings

STEPS = 1000
EPISODES = 4  # driven ones, to which all others are links


def whole_episode(seed: int) -> Rollout:
    """Return an episode of 1,000 steps; a shorter drive is repeated from its first frame."""
    driven = drive(seed, top_speed=62.0, cornering=95.0)
    return dataclasses.replace(
        driven,
        frames=np.resize(driven.frames, (STEPS + 1, *driven.frames.shape[1:])),
        actions=np.resize(driven.actions, (STEPS, 3)),
        rewards=np.resize(driven.rewards, STEPS),
        terminated=False,
        truncated=True,
    )


def link_episodes(folder: Path, driven: Sequence[Rollout], episodes: int) -> None:
    """Add episodes to the store in the run's folder until there are at least `episodes`."""
    store = EpisodeStore(folder / "episodes")
    for index in range(len(store), max(episodes, len(driven))):
        if index < len(driven):
            store.add(index, driven[index], round=1)
        else:
            os.link(store.folder / file_name(index % len(driven)), store.folder / file_name(index))


def new_run(folder: Path, preset: str) -> Run:
    """Make a run in `folder`, which already contains the episodes."""
    run = Run(folder, new=RunSettings(DEFAULT_ENV_ID, preset, 0))
    run.create()
    return run
