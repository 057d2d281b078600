"""Refuse options that the chosen mode of a command would ignore."""

from collections.abc import Mapping

from worldmodels.errors import UserError


def refuse_ignored(options: Mapping[str, object], reason: str) -> None:
    """Raise UserError if the user gave any of the options, that is, if any value is not None.

    Args:
        reason: text that says why the option has no effect, and what to do. The message is the name
            of the option, followed by this text.
    """
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} {reason}")
