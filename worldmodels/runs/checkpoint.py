"""Store weights, config and provenance in one safetensors file.

A file is written completely or not at all. The file holds a checksum of its content, so that a
changed bit is detected when the file is read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodels.data.durable import replacing
from worldmodels.errors import UserError, one_line, reading
from worldmodels.runs.stage_folder import has_file, read_file

METADATA_KEY = "worldmodels"
CHECKSUM = "checksum"  # inside the metadata, as safetensors would not keep the order of two keys
Module = TypeVar("Module", bound=torch.nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and JSON metadata from which the model of these tensors can be rebuilt."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors that are named `prefix.NAME`, under the names NAME."""
        named = self.tensors.items()
        start = f"{prefix}."
        return {name.removeprefix(start): each for name, each in named if name.startswith(start)}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename each tensor from NAME to `prefix.NAME`, as the inverse of `Checkpoint.part`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint completely or not at all.

    Raises: OSError if the folder cannot be written or the disk is full.
    """
    # clone(): safetensors refuses tensors that share memory, as tied or sliced ones do.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    checksum = _checksum(plain, json.dumps(metadata))
    header = {METADATA_KEY: json.dumps({**metadata, CHECKSUM: checksum})}
    with replacing(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode  # follows the user's umask; safetensors would set 0600
        try:
            save_file(plain, partial, metadata=header)
        except safetensors.SafetensorError as error:
            raise OSError(f"could not write {path}: {error}") from error
        partial.chmod(mode)


def load_checkpoint(path: Path, *, hint: str) -> Checkpoint:
    """Read a checkpoint; its tensors are on the CPU.

    Args:
        hint: what the user can do if the file is missing or broken; error messages end with this
            text.

    Raises: UserError, which names the file, if the file is missing or damaged, or if the file was
        not written by worldmodels.
    """
    if not has_file(path):
        raise UserError(f"no file {path}: {hint}")
    try:
        header, tensors = read_file(path, _read)
        if METADATA_KEY not in header:
            raise UserError(f"{path} was not written by worldmodels: {hint}")
        metadata = json.loads(header[METADATA_KEY])
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} ({one_line(error)}): {hint}") from error
    if not isinstance(metadata, dict):
        raise UserError(f"cannot read {path} (its metadata is not a JSON object): {hint}")
    # Files of the earliest versions have no checksum.
    checksum = metadata.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(tensors, json.dumps(metadata)):
        raise UserError(f"cannot read {path} (damaged: its checksum differs): {hint}")
    return Checkpoint(tensors, metadata)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
    return header, load_file(path)


def _checksum(tensors: Mapping[str, Tensor], metadata: str) -> str:
    digest = hashlib.sha256(metadata.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def restore_module(
    make: Callable[[], Module], weights: Mapping[str, Tensor], path: Path, hint: str
) -> Module:
    """Build a module with `make`, and load the weights of a file into the module.

    The module is first built without memory for its weights, and the shapes are compared. Otherwise
    a damaged config could request a module of any size.

    Args:
        make: function that builds the module from the file's config.
        path, hint: the file, and what the user can do if the file is not valid.

    Raises: UserError, which names `path`, if the config is of another version, or if the weights do
        not fit the config.
    """
    with reading(path, hint):
        with torch.device("meta"):
            load_weights(make(), weights, path, hint)
        module = make()
        module.load_state_dict(dict(weights))
    return module


def load_weights(
    module: torch.nn.Module, weights: Mapping[str, Tensor], path: Path, hint: str = "train it again"
) -> None:
    """Load `weights` into `module`.

    Raises: UserError, which names `path`, if the weights do not fit the module.
    """
    try:
        on_meta = any(each.is_meta for each in module.parameters())
        module.load_state_dict(dict(weights), assign=on_meta)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit its own config ({one_line(error)}): {hint}"
        ) from error
