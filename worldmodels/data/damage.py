"""Which errors say that a file's bytes are not those of a whole episode."""

import errno
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import zstandard

from worldmodels.errors import MALFORMED_FILE_ERRORS, UserError

# All that a file with some bytes cut or changed was seen to raise; RuntimeError is zipfile's
# for a flag it does not know. Of OSError, only what `damage_of` lets through.
_OF_FILES = (OSError, EOFError, zipfile.BadZipFile, zlib.error, zstandard.ZstdError)
DAMAGE = (*MALFORMED_FILE_ERRORS, *_OF_FILES)


@dataclass(frozen=True)
class Damage:
    """A file that should be an episode and is not a whole one."""

    path: Path
    reason: str

    def __str__(self) -> str:
        run = self.path.parent.parent
        return (
            f"{self.path} is not a whole episode ({self.reason}): delete it, "
            f'or run "wm collect --run {run}", which sets it aside and plays one in its place'
        )


def damage_of(path: Path, error: Exception) -> Damage:
    """The file is damaged; raises UserError where the system's error says nothing of its bytes."""
    # Invalid argument: to jump to where a spoiled directory points.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise UserError(
            f"{path} cannot be read ({error.strerror}): nothing was changed; "
            "see to that, then run again"
        ) from error
    return Damage(path, str(error).partition("\n")[0])
