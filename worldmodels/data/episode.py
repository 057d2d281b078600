"""One episode in one file.

The file is a zip file of `meta.json` and three NumPy arrays: `frames.npy` (the bytes that
`frame_codec.compress_frames` returns), `actions.npy` and `rewards.npy`. A zip file holds a checksum
of every member, so damage is detected when the file is read.
"""

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from agents.rollout import Rollout
from worldmodels.data.archive import npy_bytes, read_array, read_member
from worldmodels.data.damage import DAMAGE, Damage, damage_of
from worldmodels.data.frame_codec import compress_frames, decompress_frames, size_of_frames
from worldmodels.errors import UserError

FORMAT = 2
HELD_OUT_EVERY = 10
# An episode is read as a whole, and a damaged file may claim any size. 2**29 bytes are 43,690
# frames of 64 x 64 pixels.
MAX_FRAME_BYTES = 2**29
MAX_META_BYTES = 2**20

# The metadata that every file must hold of its episode.
METADATA_TYPES: dict[str, type | tuple[type, ...]] = {
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
OF_ROLLOUT = ("terminated", "truncated", "env_id", "seed", "policy", "action_repeat")


@dataclass(frozen=True)
class Episode:
    """One stored episode; its arrays are read on demand.

    Attributes:
        index: number of the episode in the store.
        meta: env id, seed, policy, action repeat, round, number of steps, and how the episode
            ended.
        action_size: length A of each action.
        digest: text that changes whenever the stored bytes change.
        num_bytes: size of the file in bytes.
    """

    path: Path
    index: int
    meta: dict[str, Any]
    action_size: int
    digest: str
    num_bytes: int

    @property
    def num_steps(self) -> int:
        """The number T of env steps; an episode has T + 1 frames."""
        return int(self.meta["num_steps"])

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """The height, the width and the number of channels of a frame."""
        height, width, channels = self.meta["frame_shape"]
        return height, width, channels

    @property
    def round(self) -> int:
        """The round in which the episode was collected, counted from 1."""
        return int(self.meta.get("round", 1))

    @property
    def held_out(self) -> bool:
        """Whether the episode is held out from training, as every tenth episode is.

        The result depends only on the episode's index, so new episodes do not change the result.
        """
        return self.index % HELD_OUT_EVERY == 0

    def num_frames(self, stride: int = 1) -> int:
        """The number of frames that `read_frames` reads."""
        return self.num_steps // stride + 1

    def load(self) -> Rollout:
        """Read the whole episode; raises UserError with the file's path if the file is damaged."""
        try:
            return self._load()
        except DAMAGE as error:
            raise UserError(str(damage_of(self.path, error))) from error

    def read_frames(
        self, out: UInt8[np.ndarray, "kept height width channel"], stride: int = 1
    ) -> None:
        """Read every stride-th frame into `out`, which has `num_frames(stride)` rows.

        Raises: UserError with the file's path if the file is damaged.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = read_array(archive, "frames.npy", np.uint8, (-1,)).data
            decompress_frames(data, out, self.num_frames(), stride)
        except DAMAGE as error:
            raise UserError(str(damage_of(self.path, error))) from error

    def damage(self, *, decompress: bool = False) -> Damage | None:
        """Check the file; return its damage, or None if the file is whole.

        The check covers the checksums and the sizes of the arrays. If `decompress` is true, the
        check also decompresses the frames.
        """
        try:
            self._load() if decompress else self._read()
        except DAMAGE as error:
            return damage_of(self.path, error)
        return None

    def _load(self) -> Rollout:
        data, actions, rewards = self._read()
        frames = np.empty((self.num_frames(), *self.frame_shape), np.uint8)
        decompress_frames(data, frames, len(frames))
        return Rollout(
            frames=frames,
            actions=actions,
            rewards=rewards,
            **{name: self.meta[name] for name in OF_ROLLOUT},
        )

    def _read(
        self,
    ) -> tuple[memoryview, Float32[np.ndarray, "steps action"], Float32[np.ndarray, " steps"]]:
        """Read the compressed frames, the actions and the rewards; check them with the metadata."""
        steps = self.num_steps
        with zipfile.ZipFile(self.path) as archive:
            data = read_array(archive, "frames.npy", np.uint8, (-1,)).data
            actions = read_array(archive, "actions.npy", np.float32, (steps, self.action_size))
            rewards = read_array(archive, "rewards.npy", np.float32, (steps,))
        for name, array in {"actions": actions, "rewards": rewards}.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} hold NaN or infinity")
        size, expected = size_of_frames(data), self.num_frames() * math.prod(self.frame_shape)
        if size != expected:
            raise ValueError(f"expected {expected} bytes of frames, got {size}")
        return data, actions.copy(), rewards.copy()  # PyTorch needs writable arrays


@dataclass(frozen=True)
class PackedEpisode:
    """The bytes of an episode's file, which are few enough to be sent between processes."""

    content: bytes
    episode_return: float


def pack_episode(rollout: Rollout, **meta: Any) -> PackedEpisode:
    """Pack a rollout into the bytes of an episode's file; `meta` is added to the metadata.

    Raises: UserError if the episode has so many frames that it could not be read again.
    """
    if rollout.frames.nbytes > MAX_FRAME_BYTES:
        raise UserError(
            f"an episode of {rollout.num_steps:,} steps takes {rollout.frames.nbytes:,} bytes, "
            f"expected at most {MAX_FRAME_BYTES:,}: shorten episodes with --max-steps"
        )
    metadata = {name: getattr(rollout, name, None) for name in METADATA_TYPES}
    metadata |= {"format": FORMAT, "frame_shape": list(rollout.frames.shape[1:]), **meta}
    members = {
        "meta.json": json.dumps(metadata).encode(),
        "frames.npy": npy_bytes(np.frombuffer(compress_frames(rollout.frames), np.uint8)),
        "actions.npy": npy_bytes(rollout.actions),
        "rewards.npy": npy_bytes(rollout.rewards),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            compression = zipfile.ZIP_STORED if name == "frames.npy" else zipfile.ZIP_DEFLATED
            # ZipInfo's default date is in 1980, so the same episode gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return PackedEpisode(file.getvalue(), rollout.episode_return)


def open_episode(path: Path, index: int, num_bytes: int) -> Episode | Damage:
    """Open an episode's file; only the zip directory and the metadata are read.

    Args:
        index, num_bytes: see `Episode`.

    Raises: UserError if the file is in another version of this format or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            meta = _read_metadata(archive, path)
            checksums = [f"{info.filename}:{info.CRC:08x}" for info in archive.infolist()]
            width = _action_size(archive, meta["num_steps"])
    except DAMAGE as error:
        return damage_of(path, error)
    return Episode(path, index, meta, width, " ".join(checksums), num_bytes)


def salvaged_metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of a damaged file; None if the metadata cannot be read either."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_metadata(archive, path)
    except DAMAGE as error:
        damage_of(path, error)  # raises if the error is not damage
        return None


def _read_metadata(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    meta = dict(json.loads(read_member(archive, "meta.json", MAX_META_BYTES)))
    if "format" not in meta and isinstance(meta.get("num_steps"), int):
        raise UserError(
            f"{path} was written by an earlier version of worldmodels, which stored frames "
            "in another way: collect the episodes again, into another folder"
        )
    if isinstance(meta["format"], int) and meta["format"] > FORMAT:
        raise UserError(
            f"{path} was written by a later version of worldmodels (format {meta['format']}, "
            f"this version reads {FORMAT}): update worldmodels, or collect into another folder"
        )
    _check_metadata(meta)
    return meta


def _action_size(archive: zipfile.ZipFile, num_steps: int) -> int:
    """The length A of each action, computed from the sizes of the zip's members.

    Raises: ValueError if these sizes do not fit `num_steps` steps.
    """
    header = len(npy_bytes(np.empty(0, np.float32)))  # of one size: NumPy pads it
    width, rest = divmod(archive.getinfo("actions.npy").file_size - header, 4 * num_steps)
    rewards = archive.getinfo("rewards.npy").file_size - header
    if rewards != 4 * num_steps or rest or width < 1:
        raise ValueError(f"the sizes of actions.npy and rewards.npy do not fit {num_steps} steps")
    return width


def _check_metadata(meta: dict[str, Any]) -> None:
    for name, kind in METADATA_TYPES.items():
        # A bool is also an int in Python.
        if not isinstance(meta[name], kind) or isinstance(meta[name], bool) != (kind is bool):
            raise ValueError(f"{name} is {meta[name]!r}")
    shape, steps, round_ = meta["frame_shape"], meta["num_steps"], meta.get("round", 1)
    makes_sense = {
        "num_steps": steps >= 1,
        "action_repeat": meta["action_repeat"] >= 1,
        "frame_shape": len(shape) == 3 and all(type(size) is int and size > 0 for size in shape),
        "episode_return": math.isfinite(meta["episode_return"]),
        "round": type(round_) is int and round_ >= 1,
        "format": meta["format"] == FORMAT,
    }
    for name, holds in makes_sense.items():
        if not holds:
            raise ValueError(f"{name} is {meta[name]!r}")
    if (steps + 1) * math.prod(shape) > MAX_FRAME_BYTES:
        raise ValueError(
            f"{steps} steps with frames of shape {shape} take more than {MAX_FRAME_BYTES:,} bytes"
        )
