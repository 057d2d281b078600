"""Parse `--env-arg`, which sets arguments of an environment's constructor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from worldmodels.errors import UserError


def env_arguments(given: Sequence[str] | None) -> dict[str, Any] | None:
    """Parse texts of the form `name=value`, and return the values by name.

    If there are no texts, the result is None.

    A value is read as JSON. A value that is not JSON is kept as a string, so words need no quotes.

    Raises: UserError if a text does not have the form `name=value`, if a name is given twice, or if
        a value has too many nested brackets.
    """
    if not given:
        return None
    arguments: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f'expected --env-arg name=value, got "{text}"')
        if name in arguments:
            raise UserError(f"expected one --env-arg {name}, got two: leave out one of them")
        arguments[name] = json_or_text(value)
    return arguments


def json_or_text(text: str) -> Any:
    """Parse `text` as JSON; if `text` is not JSON, return `text` itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text
    except RecursionError as error:
        raise UserError("expected a value with fewer nested brackets") from error


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
