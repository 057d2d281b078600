"""Episodes on disk: one compressed file each, there whole or not at all.

A file is a zip that `numpy.load` reads: `frames.npy`, `actions.npy`, `rewards.npy` and a
`meta.json`. Zip carries a checksum for every member, so a damaged file is noticed on reading.
"""

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from agents.rollout import Rollout
from worldmodels.errors import UserError

# On CarRacing's frames: 7.7x smaller in 48 us a frame; level 6 gives 11.1x in 123 us, which
# would be half of the time that playing takes (about 250 us).
COMPRESSION_LEVEL = 1
HELD_OUT_EVERY = 10

# All that a file with some bytes cut or changed was seen to raise; RuntimeError is zipfile's
# for a flag it does not know.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Episode:
    """One stored episode; its arrays are read when asked for.

    Attributes:
        index: its number in the store.
        meta: env id, seed, policy, action repeat, round, number of steps, how it ended.
        digest: changes with the stored bytes.
    """

    path: Path
    index: int
    meta: dict[str, Any]
    digest: str

    @property
    def num_steps(self) -> int:
        """Env steps T; there are T + 1 frames."""
        return int(self.meta["num_steps"])

    @property
    def held_out(self) -> bool:
        """Whether training must not see it. Every tenth episode, so that a store can grow."""
        return self.index % HELD_OUT_EVERY == 0

    def load(self) -> Rollout:
        """Read the whole episode; raises UserError naming the file where it is damaged."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                return Rollout(
                    frames=_read_array(archive, "frames.npy"),
                    actions=_read_array(archive, "actions.npy"),
                    rewards=_read_array(archive, "rewards.npy"),
                    terminated=self.meta["terminated"],
                    truncated=self.meta["truncated"],
                    env_id=self.meta["env_id"],
                    seed=self.meta["seed"],
                    policy=self.meta["policy"],
                    action_repeat=self.meta["action_repeat"],
                )
        except DAMAGE as error:
            raise UserError(_damaged(self.path, error)) from error


class EpisodeStore:
    """The episodes of one run, in the order they were collected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def episodes(self) -> list[Episode]:
        """All episodes, their metadata read; raises UserError for a file that is not one."""
        paths = sorted(self.folder.glob("episode-*.npz"))
        return [_open(path) for path in paths]

    def refresh(self) -> None:
        """Look at the folder again."""
        self.__dict__.pop("episodes", None)

    def add(self, index: int, rollout: Rollout, **meta: Any) -> None:
        """Write `rollout` as episode `index`; it appears whole, by a rename, or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"episode-{index:06d}.npz"
        partial = path.with_name(f".{path.name}.partial")
        facts = {
            "env_id": rollout.env_id,
            "seed": rollout.seed,
            "policy": rollout.policy,
            "action_repeat": rollout.action_repeat,
            "num_steps": rollout.num_steps,
            "episode_return": rollout.episode_return,
            "terminated": rollout.terminated,
            "truncated": rollout.truncated,
            **meta,
        }
        try:
            with zipfile.ZipFile(
                partial, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL
            ) as archive:
                _write_json(archive, "meta.json", facts)
                for name in ("frames", "actions", "rewards"):
                    _write_array(archive, f"{name}.npy", getattr(rollout, name))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        self.refresh()

    def split(self, held_out: bool) -> list[Episode]:
        """The training episodes, or the held-out ones."""
        return [episode for episode in self.episodes if episode.held_out == held_out]

    @property
    def digest(self) -> str:
        """Changes when any episode is added, removed or altered."""
        text = "\n".join(f"{episode.index} {episode.digest}" for episode in self.episodes)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require(self, run: Path) -> None:
        """Raise UserError where there is too little to train on and to hold out."""
        if len(self.episodes) < 2:
            raise UserError(
                f"{len(self.episodes)} episodes in {self.folder}, expected 2 or more: "
                f'run "wm collect --run {run}" first'
            )

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)


def _open(path: Path) -> Episode:
    try:
        with zipfile.ZipFile(path) as archive:
            meta = json.loads(archive.read("meta.json"))
            checksums = [f"{info.filename}:{info.CRC:08x}" for info in archive.infolist()]
        index = int(path.stem.removeprefix("episode-"))
        int(meta["num_steps"])
    except DAMAGE as error:
        raise UserError(_damaged(path, error)) from error
    return Episode(path, index, meta, " ".join(checksums))


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return f"{path} is not a whole episode ({reason}): delete it and run wm collect again"


def _write_json(archive: zipfile.ZipFile, name: str, facts: dict[str, Any]) -> None:
    # A fixed date: the same episode gives the same bytes.
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    archive.writestr(info, json.dumps(facts), zipfile.ZIP_DEFLATED, COMPRESSION_LEVEL)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    # All bytes first: the checksum comes after the last, and numpy must not parse a bad header.
    content = io.BytesIO(archive.read(name))
    return np.asarray(np.lib.format.read_array(content, allow_pickle=False))


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    # Spelled compress_level from Python 3.13, _compresslevel before.
    info._compresslevel = COMPRESSION_LEVEL  # type: ignore[attr-defined]
    with archive.open(info, "w") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
