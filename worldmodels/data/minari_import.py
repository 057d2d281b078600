"""Minari datasets as episodes; one episode in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.rollout import Rollout
from envs.actions import UnsupportedActionSpace, action_size, encode_actions
from envs.config import EnvConfig
from envs.views import View
from worldmodels.data.episode import METADATA_TYPES, PackedEpisode, pack_episode
from worldmodels.data.minari_checks import (
    check_ends,
    check_env_actions,
    check_frames,
    env_task,
    finite_floats,
    given_arguments,
    pixels_key,
    reason_of,
)
from worldmodels.data.minari_format import (
    ENV_METADATA,
    METADATA_KEY,
    UNKNOWN_SEED,
    dataset_folder,
    env_of,
    require_minari,
)
from worldmodels.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """A Minari dataset of pixels and Box or Discrete actions.

    Attributes:
        facts: "env_id" at least; of a dataset of ours, all that `write_dataset` was given.
        uses: what can be done with it where its env is not installed; None where it is.
    """

    name: str
    metadata: dict[str, Any]
    num_episodes: int
    num_steps: int
    unavailable_reason: str | None
    _data: Any
    _env_id: str | None
    _pixels: str | None
    _view: View

    @property
    def env(self) -> EnvConfig:
        """The env that the episodes are of."""
        return env_of(self.metadata)

    @property
    def _frame_shape(self) -> tuple[int, ...]:
        space = self._data.observation_space
        shape: tuple[int, ...] = (space if self._pixels is None else space[self._pixels]).shape
        return shape

    def episodes(self) -> Iterator[tuple[int, PackedEpisode]]:
        """Each episode with its index, ready for a store; frames are resized where they must be.

        Raises: UserError for an episode that is not whole.
        """
        label = self.name
        try:
            storage = self._data.storage
            numbers = self._data.episode_indices
            algorithm = storage.metadata.get("algorithm_name", "unknown")
            episode_metadata = storage.get_episode_metadata(numbers)
            contents = iter(self._data)
            for number, metadata_of_episode in zip(numbers, episode_metadata, strict=True):
                label = f"episode {number} of {self.name}"
                ours = (
                    json.loads(metadata_of_episode[METADATA_KEY])
                    if METADATA_KEY in metadata_of_episode
                    else {}
                )
                rollout = self._rollout(label, next(contents), metadata_of_episode, ours, algorithm)
                known = (*METADATA_TYPES, "index", *ENV_METADATA)
                other_metadata = {key: value for key, value in ours.items() if key not in known}
                other_metadata |= {
                    key: self.metadata[key] for key in ENV_METADATA if self.metadata.get(key)
                }
                index = int(ours.get("index", number))
                yield index, pack_episode(rollout, **{"round": 1, **other_metadata})
        except UserError:
            raise
        except Exception as error:  # of any kind, as `open_dataset` says
            raise UserError(f"{label} is not whole: {reason_of(error)}") from error

    def _rollout(
        self,
        label: str,
        content: Any,
        metadata_of_episode: dict[str, Any],
        ours: dict[str, Any],
        algorithm: str,
    ) -> Rollout:
        frames = content.observations
        if self._pixels is not None:
            frames = frames[self._pixels]
        num_steps = len(content.rewards)
        if num_steps < 1:
            raise ValueError("it has no steps")
        check_ends(label, num_steps, content.terminations, content.truncations)
        check_frames(label, frames, self._frame_shape)
        finite_floats(label, "actions", content.actions)
        return Rollout(
            frames=np.ascontiguousarray(self._view(np.asarray(frames))),
            actions=encode_actions(self._data.action_space, np.asarray(content.actions)),
            rewards=finite_floats(label, "rewards", content.rewards),
            terminated=bool(content.terminations[-1]),
            truncated=bool(content.truncations[-1]),
            env_id=self._env_id or ours.get("env_id", self.metadata["env_id"]),
            seed=int(metadata_of_episode.get("seed", UNKNOWN_SEED)),
            policy=ours.get("policy", algorithm),
            action_repeat=ours.get("action_repeat", 1),
        )


def open_dataset(name: str, root: Path | None, env: EnvConfig | None = None) -> Dataset:
    """A dataset on this machine.

    Args:
        env: its env, in place of what the dataset says.

    Raises: UserError where there is none, or where its observations or actions do not fit;
        where it names no env, or `env` cannot be made.
    """
    minari = require_minari()
    folder = dataset_folder(name, root)
    if not (folder / "data").is_dir():
        raise UserError(
            f'no Minari dataset in {folder}: download it with "minari download {name}", '
            "or name its folder with --root"
        )
    try:
        data = minari.MinariDataset(folder / "data")
        ours = data.storage.metadata.get(METADATA_KEY)
        metadata: dict[str, Any] = {}
        if data.env_spec:
            metadata = {"env_id": data.env_spec.id, "env_kwargs": given_arguments(data.env_spec)}
        metadata |= json.loads(ours) if ours else {}
    except Exception as error:  # of any kind: it reads JSON and HDF5, and may make the env
        raise UserError(f"{folder} is not a readable Minari dataset: {reason_of(error)}") from error
    try:
        action_size(data.action_space)
    except UnsupportedActionSpace as error:
        raise UserError(f"{name}: {error}") from error
    pixels = pixels_key(name, data.observation_space)
    if env is not None:
        metadata |= {
            "env_id": env.env_id,
            "env_kwargs": env.kwargs,
            "observation_key": env.observation_key,
        }
    if "env_id" not in metadata:
        raise UserError(
            f"{name} does not name the environment it was recorded in: name it with --env, an id "
            f"whose action space is {data.action_space}"
        )
    task = unavailable_reason = None
    try:
        task = env_task(name, env_of(metadata))
    except UserError as error:
        if env is not None:
            raise
        unavailable_reason = f"{error}; V and M can be trained, and C once it can"
    if task is not None:
        check_env_actions(name, data.action_space, task)
    return Dataset(
        name=name,
        metadata=metadata,
        num_episodes=len(data),
        num_steps=int(data.total_steps),
        unavailable_reason=unavailable_reason,
        _data=data,
        _env_id=None if env is None else env.env_id.rpartition(":")[2],
        _pixels=pixels,
        _view=View() if task is None else task.view,
    )
