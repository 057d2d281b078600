"""The format of this package's Minari datasets, and the folders that hold datasets.

Source: https://minari.farama.org. The observations of a dataset are frames. The actions of a
dataset are in the env's own format: the numbers of a Box, or the index of a Discrete action. An
`Episode` stores such an index as a one-hot vector. This package adds its own metadata as JSON to
the metadata of the dataset and of each episode, under the key `worldmodels`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.config import EnvConfig
from worldmodels.errors import UserError

# Metadata of an episode and of a dataset about the env, in addition to its id.
ENV_METADATA = ("env_kwargs", "observation_key")
METADATA_KEY = "worldmodels"
UNKNOWN_SEED = -1


def require_minari() -> Any:
    """The minari package; raises UserError with the install command if minari is missing."""
    try:
        import h5py  # noqa: F401 (Minari imports it late)
        import minari
    except ImportError as error:
        raise UserError(
            f'Minari datasets need another package ({error}): pip install "worldmodels-gym[minari]"'
        ) from error
    return minari


def dataset_folder(name: str, root: Path | None) -> Path:
    """The folder of a dataset inside `root`, or inside Minari's own folder if `root` is None."""
    minari = require_minari()
    try:
        minari.dataset.minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError) as error:  # TypeError: the name has no version
        raise UserError(f'expected a name like "racing/random-v0", got "{name}"') from error
    place: Path = minari.storage.get_dataset_path(None) if root is None else root
    # Minari resolves a relative path from its own folder.
    return (place / name).absolute()


def env_of(metadata: dict[str, Any]) -> EnvConfig:
    """The env that the metadata of a dataset or of an episode names."""
    return EnvConfig(
        metadata["env_id"], metadata.get("env_kwargs") or {}, metadata.get("observation_key")
    )
