"""`wm` as a user calls it, in this process: its exit code and what it printed."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any
from unittest import mock

from worldmodels import cli


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    error: str


def wm(*arguments: object) -> Done:
    """Run `wm` with the given arguments; a traceback is an error of the test."""
    output, error = io.StringIO(), io.StringIO()
    command = ["wm", *(str(argument) for argument in arguments)]
    code = 0
    with (
        mock.patch.object(sys, "argv", command),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(error),
    ):
        try:
            cli.run_command()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, output.getvalue(), error.getvalue())


def wm_json(*arguments: object) -> dict[str, Any]:
    """The JSON that a command which must succeed printed."""
    quiet = () if arguments[0] == "info" else ("--quiet",)
    done = wm(*arguments, *quiet, "--json")
    assert done.code == 0, done.error
    return parsed(done.output)


def parsed(document: str) -> dict[str, Any]:
    """One JSON document as the standard has it, without NaN and Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    result: dict[str, Any] = json.loads(document, parse_constant=refuse)
    return result
