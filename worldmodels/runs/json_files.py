"""JSON files: written whole or not at all, strict JSON, with a checksum if asked for."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodels.data.durable import replacing
from worldmodels.errors import UserError
from worldmodels.runs.provenance import nonfinite_to_none

CHECKSUM = "checksum"


def write_json(path: Path, content: Any, *, checksum: bool = False) -> None:
    """Write a JSON file, and the folder it lies in; what was there stays if that fails.

    JSON has neither NaN nor infinity, so these are written as null.

    Args:
        checksum: add one to the object, which `read_json` compares and takes away.
    """
    content = nonfinite_to_none(content)
    if checksum:
        content = {**content, CHECKSUM: _checksum(content)}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with replacing(path) as partial:
        partial.write_text(text)


def read_json(
    path: Path, hint: str = "delete it", read: Callable[[Path], str] = Path.read_text
) -> Any:
    """What a JSON file holds, None if there is none.

    Args:
        hint: what the user can do if the file is damaged; ends the error line.
        read: gives the text of the file.

    Raises: UserError if it is not JSON, or not what was written with a checksum.
    """
    try:
        content = json.loads(read(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): {hint}") from error
    if isinstance(content, dict) and CHECKSUM in content:
        expected = content.pop(CHECKSUM)
        if _checksum(content) != expected:
            raise UserError(
                f"{path} is not what was written there (its checksum differs), so it was damaged "
                f"or edited: {hint}"
            )
    return content


def read_object(
    path: Path, hint: str, read: Callable[[Path], str] = Path.read_text
) -> dict[str, Any] | None:
    """What `read_json` reads, if it is a JSON object; raises UserError for anything else."""
    content = read_json(path, hint, read)
    if not isinstance(content, dict | None):
        raise UserError(f"{path} is not a JSON object: {hint}")
    return content


def _checksum(content: dict[str, Any]) -> str:
    # Of what reading gives back: JSON turns tuples into lists and numbered keys into strings.
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
