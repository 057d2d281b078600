"""The option `--json`, which prints one JSON document and nothing else on stdout."""

from __future__ import annotations

import json
import os
import sys
from contextvars import ContextVar
from typing import Any, TextIO

from worldmodels.runs.provenance import nonfinite_to_none

# The stream of the document, while all other output goes to stderr.
_STDOUT: ContextVar[TextIO | None] = ContextVar("stdout", default=None)


def keep_stdout_for_json(as_json: bool) -> bool:
    """Redirect all other output to stderr if `--json` is given; typer calls this function."""
    if as_json and sys.stdout is sys.__stdout__:
        _redirect_this_process()
    elif as_json:  # a caller in this process set it; `run_command` restores it
        _STDOUT.set(sys.stdout)
        sys.stdout = sys.stderr
    return as_json


def write_json_to_stdout(result: dict[str, Any]) -> None:
    """Print the result as JSON; nan and infinity become null, because JSON has no such numbers."""
    document = json.dumps(nonfinite_to_none(result), indent=2, allow_nan=False)
    print(document, file=_STDOUT.get() or sys.stdout, flush=True)


def _redirect_this_process() -> None:
    """Redirect file descriptor 1 to stderr, and thereby the output of C code and of workers.

    File descriptor 1 is never restored, because libraries may print while the process ends.
    """
    if sys.stdout is None:  # the parent process closed it
        return
    sys.stdout.flush()
    document = os.dup(1)
    try:
        os.dup2(2, 1)
    except OSError:  # stderr is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    _STDOUT.set(os.fdopen(document, "w", encoding="utf-8"))
