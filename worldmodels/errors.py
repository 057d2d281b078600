"""The exception for errors that the user can correct, and functions that raise it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Errors that reading metadata of another version, or of a damaged or hostile file, can raise.
MALFORMED_FILE_ERRORS = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    ArithmeticError,
    RuntimeError,
)


class UserError(Exception):
    """An error that the user can correct, such as a missing file or an impossible setting.

    The message is one line. It says what was expected, what was found, and what to do. `wm` prints
    the message without a traceback and ends with exit code 2.
    """


@contextmanager
def reading(path: Path, hint: str) -> Iterator[None]:
    """Turn errors that the content of the file `path` causes in the block into a UserError.

    The block must only read and build, because any other error would be blamed on the file.
    """
    try:
        yield
    except MALFORMED_FILE_ERRORS as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{path} is not what this version expects ({what}): {hint}") from error


def one_line(error: BaseException) -> str:
    """An exception's text on one line of at most 160 characters."""
    return " ".join(str(error).split())[:160]


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise UserError if the value of a setting is not one of its choices."""
    if value not in choices:
        raise UserError(f'{name} must be one of {", ".join(choices)}, got "{value}"')


def check_at_least(least: int, config: object, *names: str) -> None:
    """Raise UserError for a setting of these names that is below `least`; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, got {value}")


def check_above_zero(config: object, *names: str) -> None:
    """Raise UserError for a setting of these names that is not above 0; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise UserError(f"{name} must be above 0, got {value}")


def check_fraction(config: object, *names: str) -> None:
    """Raise UserError for a setting of these names that is not within 0 and 1; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"{name} must be within 0 and 1, got {value}")
