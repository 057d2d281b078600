"""The exception for errors that the user can correct, and functions that raise it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Errors that can occur while metadata is read from a file that is damaged, hostile or written by
# another version.
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

    The message is one line long. The message names what was expected, what was found, and what to
    do. `wm` prints the message without a traceback and ends with exit code 2.
    """


@contextmanager
def reading(path: Path, hint: str) -> Iterator[None]:
    """Raise UserError if the block fails because of the content of the file `path`.

    The block must only read the file and build objects from its content, because the message names
    the file as the cause of every error in the block.
    """
    try:
        yield
    except MALFORMED_FILE_ERRORS as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{path} is not what this version expects ({what}): {hint}") from error


def one_line(error: BaseException) -> str:
    """Return an exception's text on one line, cut to at most 160 characters."""
    return " ".join(str(error).split())[:160]


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise UserError if `value`, the value of the setting `name`, is not one of `choices`."""
    if value not in choices:
        raise UserError(f'{name} must be one of {", ".join(choices)}, got "{value}"')


def check_at_least(least: int, config: object, *names: str) -> None:
    """Raise UserError if one of the named settings is below `least`; None is always allowed."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, got {value}")


def check_above_zero(config: object, *names: str) -> None:
    """Raise UserError if one of the named settings is not above 0; None is always allowed."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise UserError(f"{name} must be above 0, got {value}")


def check_fraction(config: object, *names: str) -> None:
    """Raise UserError if one of the named settings is outside 0..1; None is always allowed."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"{name} must be between 0 and 1, got {value}")
