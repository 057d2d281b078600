"""Read and write JSON files, with a checksum if requested."""

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
    """Write a JSON file completely or not at all, and create the folder of the file if needed.

    If writing fails, an existing file stays unchanged. JSON has no NaN and no infinity, so NaN and
    infinity are written as null.

    Args:
        checksum: whether a checksum is added to `content`, which must then be a dict. `read_json`
            checks this checksum and removes it.
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
    """Return the content of a JSON file, or None if the file does not exist.

    Args:
        hint: what the user can do if the file is damaged; the error message ends with this text.
        read: function that returns the text of the file at a path.

    Raises: UserError if the file is not JSON, or if the content does not match the checksum in the
        file.
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
    """Read a JSON object as `read_json` does; raise UserError if the file holds no JSON object."""
    content = read_json(path, hint, read)
    if not isinstance(content, dict | None):
        raise UserError(f"{path} is not a JSON object: {hint}")
    return content


def _checksum(content: dict[str, Any]) -> str:
    # JSON turns tuples into lists and int keys into strings, so the content is converted first.
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
