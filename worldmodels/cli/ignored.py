"""Refuse options that the chosen mode of a command would ignore."""

from collections.abc import Mapping

from worldmodels.errors import UserError


def refuse_ignored(options: Mapping[str, object], reason: str) -> None:
    """Raise UserError if the user gave any of the options, that is, if any value is not None.

    Args:
        reason: text that explains why the option has no effect, and what the user can do. The error
            message consists of the option's name and this text.
    """
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} {reason}")
