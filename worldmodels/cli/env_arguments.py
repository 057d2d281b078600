"""What `--env-arg` gives an environment's constructor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from worldmodels.errors import UserError


def env_arguments(given: Sequence[str] | None) -> dict[str, Any] | None:
    """Arguments by name, from `name=value`; None where none were given.

    A value is JSON; what is no JSON is a string, so that words need no quotes.

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
    """A value from the command line: JSON, or the text itself where it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text
    except RecursionError as error:
        raise UserError("expected a value that is not nested so deeply") from error


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
