"""Weights + config + provenance in one safetensors file, written whole or not at all."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodels.errors import UserError

METADATA_KEY = "worldmodels"


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and the JSON metadata that says how to rebuild what they belong to."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts with `prefix.`, with that prefix taken off."""
        start = f"{prefix}."
        return {
            name[len(start) :]: tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each named `prefix.name`; the inverse of `Checkpoint.part`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint beside its place and rename it there, so that no half file is ever seen.

    Raises: OSError where the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    # clone(): safetensors refuses tensors that share memory, as tied or sliced ones do.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(plain, partial, metadata={METADATA_KEY: json.dumps(metadata)})
        os.replace(partial, path)
    except safetensors.SafetensorError as error:
        raise OSError(f"could not write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, remedy: str) -> Checkpoint:
    """Read a checkpoint; its tensors are on the CPU.

    Args:
        remedy: what the user can do when the file is missing or broken; ends the error line.

    Raises: UserError naming the file where it is missing, truncated or not one of ours.
    """
    if not path.is_file():
        raise UserError(f"no file {path}: {remedy}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY)
        tensors = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({_one_line(error)}): {remedy}") from error
    if metadata is None:
        raise UserError(f"{path} was not written by worldmodels: {remedy}")
    return Checkpoint(tensors, json.loads(metadata))


def load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put `weights` into `module`; raises UserError naming `path` where they do not fit it."""
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise UserError(f"{path} does not fit its own config ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
