"""What a result was made from and with: digests, settings, versions."""

import hashlib
import json
import math
import platform
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def file_digest(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions that results depend on."""
    from importlib.metadata import version

    names = ("torch", "numpy", "gymnasium", "cma", "vector-quantize-pytorch")
    return {
        "python": platform.python_version(),
        "worldmodels": version("worldmodels-gym"),
        **{name: version(name) for name in names},
    }


def plain(config: Any) -> Any:
    """A config as JSON gives it back, so that it compares equal after a round trip."""
    if is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
    return json.loads(json.dumps(config))


def finite(facts: Any) -> Any:
    """Facts as JSON has them: None, its null, for nan and infinity."""
    if isinstance(facts, dict):
        return {name: finite(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [finite(value) for value in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts
