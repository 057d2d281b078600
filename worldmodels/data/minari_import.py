"""Read Minari datasets as episodes, with one episode in memory at a time."""

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
from worldmodels.data import minari_checks, minari_format
from worldmodels.data.episode import METADATA_TYPES, PackedEpisode, pack_episode
from worldmodels.errors import UserError

# Metadata of an episode that the episode itself or the dataset also holds.
KNOWN = (*METADATA_TYPES, "index", *minari_format.ENV_METADATA)


@dataclass(frozen=True)
class Dataset:
    """A Minari dataset whose observations are pixels and whose action space is Box or Discrete.

    Attributes:
        metadata: dict that holds at least "env_id". If `write_dataset` wrote the dataset, the dict
            holds all metadata that `write_dataset` was given.
        data: Minari's own dataset object.
        unavailable_reason: why the env cannot be used, and what works without the env; None if the
            env can be used.
    """

    name: str
    metadata: dict[str, Any]
    data: Any
    unavailable_reason: str | None
    _env_id: str | None
    _view: View

    def episodes(self) -> Iterator[tuple[int, PackedEpisode]]:
        """Yield each episode's index and the packed episode, which can be put into a store.

        Frames are resized to the size that V encodes.

        Raises: UserError for an episode that is not whole.
        """
        label = self.name
        try:
            numbers = self.data.episode_indices
            stored = self.data.storage.get_episode_metadata(numbers)
            of_env = {
                key: self.metadata[key]
                for key in minari_format.ENV_METADATA
                if self.metadata.get(key)
            }
            contents = iter(self.data)
            for number, metadata in zip(numbers, stored, strict=True):
                label = f"episode {number} of {self.name}"
                ours = json.loads(metadata.get(minari_format.METADATA_KEY, "{}"))
                seed = int(metadata.get("seed", minari_format.UNKNOWN_SEED))
                rollout = self._rollout(label, next(contents), ours, seed)
                others = {key: value for key, value in ours.items() if key not in KNOWN}
                packed = pack_episode(rollout, **{"round": 1, **others, **of_env})
                yield int(ours.get("index", number)), packed
        except UserError:
            raise
        except Exception as error:  # Minari may raise any kind of error, see `_open`
            raise UserError(f"{label} is incomplete: {minari_checks.reason_of(error)}") from error

    def _rollout(self, label: str, content: Any, ours: dict[str, Any], seed: int) -> Rollout:
        frames, space = content.observations, self.data.observation_space
        pixels = minari_checks.pixels_key(self.name, space)
        if pixels is not None:
            frames, space = frames[pixels], space[pixels]
        num_steps = len(content.rewards)
        if num_steps < 1:
            raise ValueError("the episode has no steps")
        minari_checks.check_ends(label, num_steps, content.terminations, content.truncations)
        minari_checks.check_frames(label, frames, space.shape)
        minari_checks.finite_floats(label, "actions", content.actions)
        algorithm = self.data.storage.metadata.get("algorithm_name", "unknown")
        return Rollout(
            frames=np.ascontiguousarray(self._view(np.asarray(frames))),
            actions=encode_actions(self.data.action_space, np.asarray(content.actions)),
            rewards=minari_checks.finite_floats(label, "rewards", content.rewards),
            terminated=bool(content.terminations[-1]),
            truncated=bool(content.truncations[-1]),
            env_id=self._env_id or ours.get("env_id", self.metadata["env_id"]),
            seed=seed,
            policy=ours.get("policy", algorithm),
            action_repeat=ours.get("action_repeat", 1),
        )


def open_dataset(name: str, root: Path | None, env: EnvConfig | None = None) -> Dataset:
    """Open a dataset on this machine.

    Args:
        env: env that is used instead of the env that the dataset names. If `env` is None, the
            dataset's env is used.

    Raises: UserError if the dataset does not exist or names no env, if its observations are not
        pixels, if its actions are not those of the env, or if `env` cannot be made.
    """
    data, metadata = _open(name, root)
    try:
        action_size(data.action_space)
    except UnsupportedActionSpace as error:
        raise UserError(f"{name}: {error}") from error
    minari_checks.pixels_key(name, data.observation_space)  # raises if there are no pixels
    if env is not None:
        values = (env.env_id, env.kwargs, env.observation_key)
        metadata |= zip(("env_id", *minari_format.ENV_METADATA), values, strict=True)
    if "env_id" not in metadata:
        raise UserError(
            f"{name} does not name the environment that it was recorded in: use --env to name an "
            f"environment whose action space is {data.action_space}"
        )
    env_id = None if env is None else env.env_id.rpartition(":")[2]
    try:
        task = minari_checks.env_task(name, minari_format.env_of(metadata))
    except UserError as error:
        if env is not None:
            raise
        reason = f"{error}; V and M can be trained, but C needs the environment"
        return Dataset(name, metadata, data, reason, env_id, View())
    minari_checks.check_env_actions(name, data.action_space, task)
    return Dataset(name, metadata, data, None, env_id, task.view)


def _open(name: str, root: Path | None) -> tuple[Any, dict[str, Any]]:
    """Minari's own dataset object, and the metadata of the whole dataset."""
    minari = minari_format.require_minari()
    folder = minari_format.dataset_folder(name, root)
    if not (folder / "data").is_dir():
        raise UserError(
            f'no Minari dataset in {folder}: download it with "minari download {name}", '
            "or use --root to name the folder of your datasets"
        )
    try:
        data = minari.MinariDataset(folder / "data")
        spec = data.env_spec
        recorded = (
            {"env_id": spec.id, "env_kwargs": minari_checks.given_arguments(spec)} if spec else {}
        )
        ours = json.loads(data.storage.metadata.get(minari_format.METADATA_KEY, "{}"))
        return data, {**recorded, **ours}
    except Exception as error:  # Minari reads JSON and HDF5, and may make the env
        raise UserError(
            f"{folder} is not a readable Minari dataset: {minari_checks.reason_of(error)}"
        ) from error
