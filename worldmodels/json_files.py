"""JSON files, whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from worldmodels.errors import UserError


def write_json(path: Path, facts: Any) -> None:
    """Write a JSON file, and the folder it lies in; what was there stays where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(facts, indent=2) + "\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds, None where there is none; UserError where it is damaged."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON ({error}): delete it") from error
