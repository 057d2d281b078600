"""One episode in one file.

A file is a zip of `meta.json` and three NumPy arrays: `frames.npy`, the bytes of
`codec.compress_frames`, `actions.npy` and `rewards.npy`. Zip carries a checksum for every
member, so damage is noticed on reading.
"""

import io
import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from jaxtyping import UInt8

from agents.rollout import Rollout
from worldmodels.data.codec import compress_frames, decompress_frames
from worldmodels.errors import UserError

FORMAT = 2
HELD_OUT_EVERY = 10

# What every file says of its episode.
FACTS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "env_id": str,
    "seed": int,
    "policy": str,
    "action_repeat": int,
    "num_steps": int,
    "frame_shape": list,
    "episode_return": (int, float),
    "terminated": bool,
    "truncated": bool,
}

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
    zstandard.ZstdError,
)


@dataclass(frozen=True)
class Damage:
    """A file that should be an episode and is not a whole one."""

    path: Path
    reason: str

    def __str__(self) -> str:
        run = self.path.parent.parent
        return (
            f"{self.path} is not a whole episode ({self.reason}): delete it, "
            f'or run "wm collect --run {run}", which sets it aside and plays it again'
        )


@dataclass(frozen=True)
class Episode:
    """One stored episode; its arrays are read when asked for.

    Attributes:
        index: its number in the store.
        meta: env id, seed, policy, action repeat, round, number of steps, how it ended.
        digest: changes with the stored bytes.
        num_bytes: of the file.
    """

    path: Path
    index: int
    meta: dict[str, Any]
    digest: str
    num_bytes: int

    @property
    def num_steps(self) -> int:
        """Env steps T; there are T + 1 frames."""
        return int(self.meta["num_steps"])

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.meta["frame_shape"]
        return height, width, channels

    @property
    def round(self) -> int:
        """The round it was collected in, counted from 1."""
        return int(self.meta.get("round", 1))

    @property
    def held_out(self) -> bool:
        """Whether training must not see it. Every tenth episode, so that a store can grow."""
        return self.index % HELD_OUT_EVERY == 0

    def num_frames(self, stride: int = 1) -> int:
        """How many frames `read_frames` gives."""
        return self.num_steps // stride + 1

    def load(self) -> Rollout:
        """Read the whole episode; raises UserError naming the file where it is damaged."""
        frames = np.empty((self.num_frames(), *self.frame_shape), np.uint8)
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = _read_array(archive, "frames.npy").tobytes()
                decompress_frames(data, frames, len(frames))
                return Rollout(
                    frames=frames,
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
            raise UserError(str(_damage(self.path, error))) from error

    def read_frames(
        self, out: UInt8[np.ndarray, "kept height width channel"], stride: int = 1
    ) -> None:
        """Every stride-th frame into `out`, of `num_frames(stride)` rows; raises as `load` does."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = _read_array(archive, "frames.npy").tobytes()
            decompress_frames(data, out, self.num_frames(), stride)
        except DAMAGE as error:
            raise UserError(str(_damage(self.path, error))) from error

    def damage(self) -> Damage | None:
        """What the checksums say: cheaper than `load`, which decompresses, too."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                broken = archive.testzip()
        except DAMAGE as error:
            return _damage(self.path, error)
        return None if broken is None else Damage(self.path, f"Bad CRC-32 for file '{broken}'")


@dataclass(frozen=True)
class PackedEpisode:
    """An episode as the bytes of its file; small enough to hand from process to process."""

    content: bytes
    episode_return: float


def pack_episode(rollout: Rollout, **meta: Any) -> PackedEpisode:
    """The file of an episode. `meta` joins what the rollout says of itself."""
    facts = {
        "format": FORMAT,
        "env_id": rollout.env_id,
        "seed": rollout.seed,
        "policy": rollout.policy,
        "action_repeat": rollout.action_repeat,
        "num_steps": rollout.num_steps,
        "frame_shape": list(rollout.frames.shape[1:]),
        "episode_return": rollout.episode_return,
        "terminated": rollout.terminated,
        "truncated": rollout.truncated,
        **meta,
    }
    frames = np.frombuffer(compress_frames(rollout.frames), np.uint8)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        _write(archive, "meta.json", json.dumps(facts).encode(), zipfile.ZIP_DEFLATED)
        _write(archive, "frames.npy", _npy(frames), zipfile.ZIP_STORED)
        for name in ("actions", "rewards"):
            _write(archive, f"{name}.npy", _npy(getattr(rollout, name)), zipfile.ZIP_DEFLATED)
    return PackedEpisode(file.getvalue(), rollout.episode_return)


def file_name(index: int) -> str:
    """What the file of episode `index` is called."""
    return f"episode-{index:06d}.npz"


def index_in(name: str) -> int | None:
    """The number in an episode's file name; None for any other name."""
    match = re.fullmatch(r"episode-(\d{6,})\.npz", name)
    index = None if match is None else int(match[1])
    return index if index is not None and name == file_name(index) else None


def open_episode(path: Path, num_bytes: int) -> Episode | Damage:
    """The episode of a file, by its directory and its metadata alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            meta = dict(json.loads(archive.read("meta.json")))
            checksums = [f"{info.filename}:{info.CRC:08x}" for info in archive.infolist()]
        if "format" not in meta and isinstance(meta.get("num_steps"), int):
            raise UserError(
                f"{path} was written by an earlier version of worldmodels, which stored frames "
                "in another way: collect again into another folder"
            )
        _check_facts(meta)
    except DAMAGE as error:
        return _damage(path, error)
    index = index_in(path.name)
    assert index is not None  # nothing else is opened
    return Episode(path, index, meta, " ".join(checksums), num_bytes)


def _check_facts(meta: dict[str, Any]) -> None:
    for name, kind in FACTS.items():
        # JSON's true is Python's 1, too.
        if not isinstance(meta[name], kind) or isinstance(meta[name], bool) != (kind is bool):
            raise ValueError(f"{name} is {meta[name]!r}")
    shape = meta["frame_shape"]
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"frame_shape is {shape}")
    if meta["num_steps"] < 1 or meta["action_repeat"] < 1:
        raise ValueError("no steps")
    if meta["format"] != FORMAT:
        raise ValueError(f"format {meta['format']}, this version reads {FORMAT}")


def _damage(path: Path, error: Exception) -> Damage:
    return Damage(path, str(error).partition("\n")[0])


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    # All bytes first: the checksum comes after the last, and numpy must not parse a bad header.
    content = io.BytesIO(archive.read(name))
    return np.asarray(np.lib.format.read_array(content, allow_pickle=False))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def _write(archive: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    # A fixed date: the same episode gives the same bytes.
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    archive.writestr(info, content, compression)
