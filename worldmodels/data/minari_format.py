"""What we write into a Minari dataset beside its own format, and where datasets lie.

Source: https://minari.farama.org. Its observations are our frames, its actions the
environment's own: a Box's numbers, or a Discrete one's index where ours are one-hot. What Minari
has no place for, it carries as JSON: `worldmodels` among an episode's and the dataset's metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.config import EnvConfig
from worldmodels.errors import UserError

# What an episode and a dataset say of the env beside its id.
ENV_METADATA = ("env_kwargs", "observation_key")
METADATA_KEY = "worldmodels"
UNKNOWN_SEED = -1


def require_minari() -> Any:
    """The minari package; raises UserError with the install command where it is missing."""
    try:
        import h5py  # noqa: F401 (Minari asks for it late)
        import minari
    except ImportError as error:
        raise UserError(
            f'Minari datasets need another package ({error}): pip install "worldmodels-gym[minari]"'
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


def env_of(metadata: dict[str, Any]) -> EnvConfig:
    """The env that a dataset or an episode says it is of."""
    return EnvConfig(
        metadata["env_id"], metadata.get("env_kwargs") or {}, metadata.get("observation_key")
    )
