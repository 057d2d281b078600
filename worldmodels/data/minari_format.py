"""Episodes as a Minari dataset, and Minari datasets as episodes; one episode in memory at a time.

Source: https://minari.farama.org. Its observations are our frames, its actions the
environment's own: a Box's numbers, or a Discrete one's index where ours are one-hot. What Minari
has no place for, it carries as JSON: `worldmodels` among an episode's and the dataset's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from agents.rollout import Rollout
from envs.actions import UnsupportedActionSpace, action_size, decode_actions, encode_actions
from envs.views import View
from worldmodels.agent import space_of
from worldmodels.data.episode import FACTS, Episode, PackedEpisode, pack_episode
from worldmodels.data.minari_checks import (
    check_ends,
    check_env_actions,
    check_frames,
    env_task,
    finite_floats,
    pixels_key,
    reason_of,
)
from worldmodels.errors import UserError

OURS = "worldmodels"
UNKNOWN_SEED = -1
# Minari writes frames as they are; HDF5's own filter makes them smaller by about what our codec
# does, and every HDF5 reader undoes it. Frames in one chunk: 196 kB, from which it profits.
FRAMES_A_CHUNK = 16
GZIP_LEVEL = 1


def require_minari() -> Any:
    """The minari package; raises UserError with the install command where it is missing."""
    try:
        import h5py  # noqa: F401 (Minari asks for it late)
        import minari
    except ImportError as error:
        raise UserError(
            f'Minari datasets need a package more ({error}): run pip install "worldmodels[minari]"'
        ) from error
    return minari


def dataset_folder(name: str, root: Path | None) -> Path:
    """Where the dataset lies, below `root` or where Minari keeps its datasets."""
    minari = require_minari()
    try:
        minari.dataset.minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError) as error:  # TypeError: of a name without a version
        raise UserError(f'expected a name like "racing/random-v0", got "{name}"') from error
    place: Path = minari.storage.get_dataset_path(None) if root is None else root
    # Minari looks for a relative path from the folder it is in.
    return (place / name).absolute()


def write_dataset(
    folder: Path,
    name: str,
    episodes: Sequence[Episode],
    facts: dict[str, Any],
    on_episode: Callable[[], None] = lambda: None,
) -> None:
    """Write a new dataset to `folder`, which its name must fit in the end.

    Args:
        facts: of the whole, with "env_id", as `Dataset.facts` gives them back.

    Raises: UserError, before anything is written, for episodes that do not fit the env or
        each other.
    """
    minari = require_minari()
    from minari.dataset.minari_storage import MinariStorage

    space, env_spec = _space_and_spec(facts["env_id"], episodes[0])
    expected = (action_size(space), episodes[0].frame_shape)
    for episode in episodes:
        if (episode.action_size, episode.frame_shape) != expected:
            raise UserError(
                f"{episode.path} has actions of {episode.action_size} numbers and frames of "
                f"{episode.frame_shape}, expected {expected[0]}, as {facts['env_id']} takes, "
                f"and {expected[1]}: move it away"
            )
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data",
        observation_space=spaces.Box(0, 255, episodes[0].frame_shape, np.uint8),
        action_space=space,
        env_spec=env_spec,
        jpeg_encoding=False,  # its default, and lossy
    )
    for number, episode in enumerate(episodes):
        _append(storage, number, episode, space)
        on_episode()
    storage.update_metadata(
        {
            "dataset_id": name,
            "minari_version": minari.__version__,
            "algorithm_name": ", ".join(sorted({e.meta["policy"] for e in episodes})),
            "description": f"Episodes of {facts['env_id']}, collected by worldmodels.",
            OURS: json.dumps(facts),
        }
    )


@dataclass(frozen=True)
class Dataset:
    """A Minari dataset of pixels and Box or Discrete actions.

    Attributes:
        facts: "env_id" at least; of a dataset of ours, all that `write_dataset` was given.
        uses: what can be done with it where its env is not installed; None where it is.
    """

    name: str
    facts: dict[str, Any]
    num_episodes: int
    num_steps: int
    uses: str | None
    _data: Any
    _env_id: str | None
    _pixels: str | None
    _view: View

    @property
    def _frame_shape(self) -> tuple[int, ...]:
        space = self._data.observation_space
        shape: tuple[int, ...] = (space if self._pixels is None else space[self._pixels]).shape
        return shape

    def episodes(self) -> Iterator[tuple[int, PackedEpisode]]:
        """Each episode with its index, ready for a store; frames are resized where they must be.

        Raises: UserError for an episode that is not whole.
        """
        place = self.name
        try:
            storage = self._data.storage
            numbers = self._data.episode_indices
            algorithm = storage.metadata.get("algorithm_name", "unknown")
            notes = storage.get_episode_metadata(numbers)
            contents = iter(self._data)
            for number, note in zip(numbers, notes, strict=True):
                place = f"episode {number} of {self.name}"
                ours = json.loads(note[OURS]) if OURS in note else {}
                rollout = self._rollout(place, next(contents), note, ours, algorithm)
                more = {key: value for key, value in ours.items() if key not in (*FACTS, "index")}
                index = int(ours.get("index", number))
                yield index, pack_episode(rollout, **{"round": 1, **more})
        except UserError:
            raise
        except Exception as error:  # of any kind, as `open_dataset` says
            raise UserError(f"{place} is not whole: {reason_of(error)}") from error

    def _rollout(
        self, place: str, content: Any, note: dict[str, Any], ours: dict[str, Any], algorithm: str
    ) -> Rollout:
        frames = content.observations
        if self._pixels is not None:
            frames = frames[self._pixels]
        num_steps = len(content.rewards)
        if num_steps < 1:
            raise ValueError("it has no steps")
        check_ends(place, num_steps, content.terminations, content.truncations)
        check_frames(place, frames, self._frame_shape)
        finite_floats(place, "actions", content.actions)
        return Rollout(
            frames=np.ascontiguousarray(self._view(np.asarray(frames))),
            actions=encode_actions(self._data.action_space, np.asarray(content.actions)),
            rewards=finite_floats(place, "rewards", content.rewards),
            terminated=bool(content.terminations[-1]),
            truncated=bool(content.truncations[-1]),
            env_id=self._env_id or ours.get("env_id", self.facts["env_id"]),
            seed=int(note.get("seed", UNKNOWN_SEED)),
            policy=ours.get("policy", algorithm),
            action_repeat=ours.get("action_repeat", 1),
        )


def open_dataset(name: str, root: Path | None, env: str | None = None) -> Dataset:
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
        ours = data.storage.metadata.get(OURS)
        facts: dict[str, Any] = {"env_id": data.env_spec.id} if data.env_spec else {}
        facts |= json.loads(ours) if ours else {}
    except Exception as error:  # of any kind: it reads JSON and HDF5, and may make the env
        raise UserError(f"{folder} is not a readable Minari dataset: {reason_of(error)}") from error
    try:
        action_size(data.action_space)
    except UnsupportedActionSpace as error:
        raise UserError(f"{name}: {error}") from error
    pixels = pixels_key(name, data.observation_space)
    if env is not None:
        facts["env_id"] = env
    if "env_id" not in facts:
        raise UserError(
            f"{name} does not name the environment it was recorded in: name it with --env, an id "
            f"whose action space is {data.action_space}"
        )
    task = uses = None
    try:
        task = env_task(name, facts["env_id"])
    except UserError as error:
        if env is not None:
            raise
        uses = f"{error}; V and M can be trained, and C once it can"
    if task is not None:
        check_env_actions(name, data.action_space, task)
    return Dataset(
        name=name,
        facts=facts,
        num_episodes=len(data),
        num_steps=int(data.total_steps),
        uses=uses,
        _data=data,
        _env_id=None if env is None else env.rpartition(":")[2],
        _pixels=pixels,
        _view=View() if task is None else task.view,
    )


def _space_and_spec(env_id: str, episode: Episode) -> tuple[spaces.Box | spaces.Discrete, Any]:
    """The env's action space and spec; where it is not installed, any actions of that length."""
    try:
        task = env_task("the run", env_id)
    except UserError:
        return spaces.Box(-np.inf, np.inf, (episode.action_size,), np.float32), None
    space = space_of(task.action_map)
    spec = gym.spec(env_id.rpartition(":")[2])  # of "module:id"; the module is loaded by now
    try:
        spec.to_json()
    except (TypeError, ValueError):  # made of a class instead of its name
        return space, None
    return space, spec


def _append(
    storage: Any, number: int, episode: Episode, space: spaces.Box | spaces.Discrete
) -> None:
    import h5py
    from minari.data_collector import EpisodeBuffer

    rollout = episode.load()
    last = np.arange(1, rollout.num_steps + 1) == rollout.num_steps
    discrete = isinstance(space, spaces.Discrete)
    # Minari appends to what is there, with the filter it was made with.
    with h5py.File(storage.data_path / "main_data.hdf5", "a", track_order=True) as file:
        file.create_dataset(
            f"episode_{number}/observations",
            shape=(0, *episode.frame_shape),
            maxshape=(None, *episode.frame_shape),
            dtype=np.uint8,
            chunks=(FRAMES_A_CHUNK, *episode.frame_shape),
            compression="gzip",
            compression_opts=GZIP_LEVEL,
        )
    buffer = EpisodeBuffer(
        id=number,
        seed=None if rollout.seed == UNKNOWN_SEED else rollout.seed,
        observations=rollout.frames,
        actions=decode_actions(space, rollout.actions) if discrete else rollout.actions,
        rewards=rollout.rewards,
        terminations=last & rollout.terminated,
        truncations=last & rollout.truncated,
    )
    storage.update_episodes([buffer])
    ours = {"index": episode.index, **episode.meta}
    storage.update_episode_metadata([{OURS: json.dumps(ours)}], [number])
