"""Options that a command's mode would ignore are refused instead."""

from collections.abc import Mapping

from worldmodels.errors import UserError


def refuse_ignored(options: Mapping[str, object], reason: str) -> None:
    """Raise UserError for the first option that was given, that is, which is not None.

    Args:
        reason: why it would have no effect and what to do, to be read after the option's name.
    """
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} {reason}")
