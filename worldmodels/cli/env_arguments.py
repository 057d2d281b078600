"""Parse `--env-arg`, which sets arguments of an environment's constructor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from worldmodels.errors import UserError


def env_arguments(given: Sequence[str] | None) -> dict[str, Any] | None:
    """Return arguments by name from texts `name=value`; None if there are none.

    A value is read as JSON, or as a string if it is not JSON, so that words need no quotes.

    Raises: UserError for anything else than `name=value`, or a name that is given twice.
    """
    if not given:
        return None
    arguments: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f'expected --env-arg name=value, got "{text}"')
        if name in arguments:
            raise UserError(f"expected one --env-arg {name}, got two: leave one out")
        arguments[name] = json_or_text(value)
    return arguments


def json_or_text(text: str) -> Any:
    """Read a value of the command line as JSON; return the text itself if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text
    except RecursionError as error:
        raise UserError("expected a value that is not nested too deeply") from error


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
