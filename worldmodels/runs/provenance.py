"""Record what a result was made from: the digests of files, the settings and the versions."""

import hashlib
import json
import math
import platform
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def file_digest(path: Path) -> str:
    """Return the first 16 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    from importlib.metadata import version

    names = ("torch", "numpy", "gymnasium", "cma", "vector-quantize-pytorch")
    return {
        "python": platform.python_version(),
        "worldmodels": version("worldmodels-gym"),
        **{name: version(name) for name in names},
    }


def plain(config: Any) -> Any:
    """Convert a config to JSON values, which can be compared with a config from a JSON file."""
    is_instance = is_dataclass(config) and not isinstance(config, type)
    return json.loads(json.dumps(asdict(config) if is_instance else config))


def nonfinite_to_none(content: Any) -> Any:
    """Replace every NaN and infinity in `content` by None, because JSON has neither of them."""
    if isinstance(content, dict):
        return {name: nonfinite_to_none(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [nonfinite_to_none(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
