"""The errors that show that a file does not hold a whole episode."""

import errno
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import zstandard

from worldmodels.errors import MALFORMED_FILE_ERRORS, UserError

# All errors that were observed for files with missing or changed bytes. zipfile raises RuntimeError
# for an unknown flag. An OSError counts as damage only if `damage_of` accepts it.
_OF_FILES = (OSError, EOFError, zipfile.BadZipFile, zlib.error, zstandard.ZstdError)
DAMAGE = (*MALFORMED_FILE_ERRORS, *_OF_FILES)


@dataclass(frozen=True)
class Damage:
    """A file that should hold a whole episode but does not, and the reason."""

    path: Path
    reason: str

    def __str__(self) -> str:
        run = self.path.parent.parent
        return (
            f"{self.path} is not a whole episode ({self.reason}): delete it, "
            f'or run "wm collect --run {run}", which quarantines and replaces it'
        )


def damage_of(path: Path, error: Exception) -> Damage:
    """Return the damage that caused `error`; raises UserError if damage is not the cause."""
    # EINVAL: a damaged zip directory points to an invalid position in the file.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise UserError(
            f"{path} cannot be read ({error.strerror}): nothing was changed; "
            "remove the cause, then run the command again"
        ) from error
    return Damage(path, str(error).partition("\n")[0])
