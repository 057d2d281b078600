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


def flag_given(value: bool | None, on: str, off: str) -> dict[str, object]:
    """A pair of flags as `refuse_ignored` takes them, by the name of the one that was given."""
    return {off if value is False else on: value}
