"""Forgeries of files. A forgery changes the content of a file, and corrects the checksums."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard

from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.runs.json_files import read_json, write_json

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 2**31, 10**9, 10**30, 0.5, -1e308, float("nan")),
    *("", "x", "cuda", "../../x", [], [[]], [0], [10**9] * 3, {}, {"x": {}}, [1] * 1000),
)


def forge_json(path: Path, random: np.random.Generator) -> str:
    """Change one value of a JSON object."""
    summary = read_json(path)
    what = _change(summary, random)
    write_json(path, summary, checksum=True)
    return what


def forge_checkpoint(path: Path, random: np.random.Generator) -> str:
    """Change one value of a checkpoint's metadata, or one tensor."""
    saved = load_checkpoint(path, hint="none")
    if random.random() < 0.75:
        what = _change(saved.metadata, random)
    else:
        what = _change_tensor(saved.tensors, random)
    save_checkpoint(path, saved.tensors, saved.metadata)
    return what


def forge_episode(path: Path, random: np.random.Generator) -> str:
    """Change one value of an episode's metadata, or a declared or real size of its arrays."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    choice = random.integers(4)
    if choice == 0:
        name = str(random.choice(["frames.npy", "actions.npy", "rewards.npy"]))
        what, members[name] = f"a header of {name}", _forge_header(members[name], random)
    elif choice == 1:
        what, members["frames.npy"] = "frames that become large", _zeros(2**30)
    elif choice == 2:
        what = "facts that agree on something large"
        members |= _large(json.loads(members["meta.json"]), random)
    else:
        summary = json.loads(members["meta.json"])
        what = _change(summary, random)
        members["meta.json"] = json.dumps(summary).encode()
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member, kinds[random.choice(3, p=(0.3, 0.6, 0.1))])
    return what


def _large(summary: dict[str, Any], random: np.random.Generator) -> dict[str, bytes]:
    """Return members of an episode's file that are small but declare gigabytes of frames."""
    steps = int(random.choice([1, 100, 200_000]))
    side = 64 if steps > 1000 else int(2 ** random.integers(8, 15))
    summary |= {"num_steps": steps, "frame_shape": [side, side, 3]}
    size = min((steps + 1) * side * side * 3, 2**31)
    return {
        "meta.json": json.dumps(summary).encode(),
        "frames.npy": _zeros(size),
        "actions.npy": _npy(np.zeros((steps, 3), np.float32)),
        "rewards.npy": _npy(np.zeros(steps, np.float32)),
    }


def _zeros(size: int) -> bytes:
    """Return a .npy file of compressed black frames, which decompress to `size` bytes."""
    compressor = zstandard.ZstdCompressor().compressobj(size=size)
    zeros = bytes(2**24)
    parts = [compressor.compress(zeros[: size - i]) for i in range(0, size, len(zeros))]
    return _npy(np.frombuffer(b"".join([*parts, compressor.flush()]), np.uint8))


def _forge_header(member: bytes, random: np.random.Generator) -> bytes:
    """Return a .npy file with a new header, which declares another shape or type."""
    shapes = ((10**14,), (10**7, 10**7), (0,), (2**40, 0), (3,), ())
    types = ("<f4", "|u1", "<f8", "|O", "<U1000000", "|V1000000000")
    file = io.BytesIO()
    header = {
        "descr": str(random.choice(types)),
        "fortran_order": bool(random.integers(2)),
        "shape": shapes[random.integers(len(shapes))],
    }
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + member[128:]


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def _change_tensor(tensors: dict[str, torch.Tensor], random: np.random.Generator) -> str:
    name = str(random.choice(sorted(tensors)))
    tensor = tensors.pop(name)
    changes = {
        f"{name} left out": {},
        f"{name} with another axis": {name: tensor[..., None]},
        f"{name}.x beside it": {name: tensor, f"{name}.x": torch.zeros(3)},
        f"{name} of another size": {name: torch.zeros(int(random.integers(0, 1000)))},
    }
    what = str(random.choice(list(changes)))
    tensors.update(changes[what])
    return what


def _change(summary: Any, random: np.random.Generator) -> str:
    """Change one value anywhere in nested dicts and lists, in place."""
    places = list(_places(summary, ""))
    holder, key, name = places[random.integers(len(places))]
    choice = random.random()
    if choice < 0.15:
        del holder[key]
        return f"{name} left out"
    if choice < 0.25 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
        return f"{name} under another name"
    value = ODD_VALUES[random.integers(len(ODD_VALUES))]
    if choice < 0.5 and type(holder[key]) in (int, float):
        value = holder[key] * int(random.choice([-1, 2, 10, 10**6])) + int(random.integers(2))
    holder[key] = value
    return f"{name} = {str(value)[:40]}"


def _places(summary: Any, name: str) -> Any:
    """Yield the container, the key and the name of every value in nested dicts and lists."""
    if isinstance(summary, dict | list):
        keys = list(summary) if isinstance(summary, dict) else range(len(summary))
        for key in keys:
            yield summary, key, f"{name}.{key}"
            yield from _places(summary[key], f"{name}.{key}")


FORGERIES = {"episode": forge_episode, "checkpoint": forge_checkpoint, "json": forge_json}
