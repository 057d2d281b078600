"""Read and write strict JSON files, which appear whole or not at all and may have a checksum."""

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
    """Write a JSON file and create its folder; an existing file stays if writing fails.

    JSON has no NaN and no infinity, so both are written as null.

    Args:
        checksum: whether a checksum is added to the object; `read_json` compares and removes this
            checksum.
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
    """The content of a JSON file; None if the file does not exist.

    Args:
        hint: what the user can do if the file is damaged; the error message ends with this text.
        read: function that returns the text of the file at a path.

    Raises: UserError if the file is not JSON, or if its content does not match its checksum.
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
                f"the content of {path} does not match its checksum, so the file was damaged or "
                f"edited: {hint}"
            )
    return content


def read_object(
    path: Path, hint: str, read: Callable[[Path], str] = Path.read_text
) -> dict[str, Any] | None:
    """Read a JSON object as `read_json` does; raises UserError if the file holds no object."""
    content = read_json(path, hint, read)
    if not isinstance(content, dict | None):
        raise UserError(f"{path} is not a JSON object: {hint}")
    return content


def _checksum(content: dict[str, Any]) -> str:
    # The checksum is that of the content as read: JSON makes tuples lists and int keys strings.
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
