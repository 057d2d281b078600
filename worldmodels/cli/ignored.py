"""Refuse options that the chosen mode of a command would ignore."""

from collections.abc import Mapping

from worldmodels.errors import UserError


def refuse_ignored(options: Mapping[str, object], reason: str) -> None:
    """Raise UserError for the first option that was given, that is, whose value is not None.

    Args:
        reason: why the option has no effect and what to do; follows its name in the message.
    """
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} {reason}")
