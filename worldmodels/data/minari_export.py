"""Write episodes as a Minari dataset, with one episode in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.actions import action_size, decode_actions
from envs.config import EnvConfig
from worldmodels.data.episode import Episode
from worldmodels.data.minari_checks import env_task
from worldmodels.data.minari_format import METADATA_KEY, UNKNOWN_SEED, env_of, require_minari
from worldmodels.errors import UserError

# Minari writes frames uncompressed. The gzip filter of HDF5 compresses them about as well as
# `frame_codec`, and every HDF5 reader supports it. It compresses chunks of 16 frames (196 kB)
# better than single frames.
FRAMES_PER_CHUNK = 16
GZIP_LEVEL = 1


def write_dataset(
    folder: Path,
    name: str,
    episodes: Sequence[Episode],
    metadata: dict[str, Any],
    on_episode: Callable[[], None] = lambda: None,
) -> None:
    """Write a new dataset to `folder`; the caller moves `folder` to the place that `name` requires.

    Args:
        episodes: episodes that have the same env, action size and frame size, as the episodes of
            a store do.
        metadata: metadata of the dataset in the form of `Dataset.metadata`, which includes
            "env_id".

    Raises: UserError if the episodes do not fit the env; nothing is written in this case.
    """
    minari = require_minari()
    from minari.dataset.minari_storage import MinariStorage

    first = episodes[0]
    space, env_spec = _space_and_spec(env_of(metadata), first)
    if first.action_size != action_size(space):
        raise UserError(
            f"{first.path} has actions of {first.action_size} numbers, but {metadata['env_id']} "
            f"takes actions of {action_size(space)} numbers: move such episodes to another folder"
        )
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data",
        observation_space=spaces.Box(0, 255, first.frame_shape, np.uint8),
        action_space=space,
        env_spec=env_spec,
        jpeg_encoding=False,  # Minari's default, True, is lossy
    )
    for number, episode in enumerate(episodes):
        _append(storage, number, episode, space)
        on_episode()
    storage.update_metadata(
        {
            "dataset_id": name,
            "minari_version": minari.__version__,
            "algorithm_name": ", ".join(sorted({e.meta["policy"] for e in episodes})),
            "description": f"Episodes of {metadata['env_id']}, collected by worldmodels.",
            METADATA_KEY: json.dumps(metadata),
        }
    )


def _space_and_spec(env: EnvConfig, episode: Episode) -> tuple[spaces.Box | spaces.Discrete, Any]:
    """Return the env's action space and the env's spec.

    If the env is not installed, the action space is an unbounded Box, and the spec is None.
    """
    try:
        task = env_task("the run", env)
    except UserError:
        return spaces.Box(-np.inf, np.inf, (episode.action_size,), np.float32), None
    space = task.action_map.space
    spec = gym.spec(env.env_id.rpartition(":")[2])  # the module of "module:id" is loaded by now
    try:
        spec.to_json()
    except (TypeError, ValueError):  # the spec holds a class instead of its name
        return space, None
    return space, replace(spec, kwargs={**spec.kwargs, **env.kwargs})


def _append(
    storage: Any, number: int, episode: Episode, space: spaces.Box | spaces.Discrete
) -> None:
    import h5py
    from minari.data_collector import EpisodeBuffer

    rollout = episode.load()
    actions = rollout.actions
    if isinstance(space, spaces.Discrete):
        actions = decode_actions(space, actions)
    last = np.arange(1, rollout.num_steps + 1) == rollout.num_steps
    # Minari appends to an existing HDF5 dataset, and thereby keeps its filter.
    with h5py.File(storage.data_path / "main_data.hdf5", "a", track_order=True) as file:
        file.create_dataset(
            f"episode_{number}/observations",
            shape=(0, *episode.frame_shape),
            maxshape=(None, *episode.frame_shape),
            dtype=np.uint8,
            chunks=(FRAMES_PER_CHUNK, *episode.frame_shape),
            compression="gzip",
            compression_opts=GZIP_LEVEL,
        )
    buffer = EpisodeBuffer(
        id=number,
        seed=None if rollout.seed == UNKNOWN_SEED else rollout.seed,
        observations=rollout.frames,
        actions=actions,
        rewards=rollout.rewards,
        terminations=last & rollout.terminated,
        truncations=last & rollout.truncated,
    )
    storage.update_episodes([buffer])
    ours = {"index": episode.index, **episode.meta}
    storage.update_episode_metadata([{METADATA_KEY: json.dumps(ours)}], [number])
