"""`--json`: one JSON document on stdout, and nothing else."""

from __future__ import annotations

import json
import os
import sys
from contextvars import ContextVar
from typing import Any, TextIO

from worldmodels.runs.provenance import nonfinite_to_none

# Where the document goes, while what else is printed goes to stderr.
_STDOUT: ContextVar[TextIO | None] = ContextVar("stdout", default=None)


def keep_stdout_for_json(as_json: bool) -> bool:
    """Callback of `--json`: what environments and libraries print from now on goes to stderr."""
    if as_json and sys.stdout is sys.__stdout__:
        _redirect_this_process()
    elif as_json:  # a caller's in this process; `main` gives it back
        _STDOUT.set(sys.stdout)
        sys.stdout = sys.stderr
    return as_json


def write_json_to_stdout(result: dict[str, Any]) -> None:
    """The result as JSON, which has no nan and no infinity: null stands for both."""
    document = json.dumps(nonfinite_to_none(result), indent=2, allow_nan=False)
    print(document, file=_STDOUT.get() or sys.stdout, flush=True)


def _redirect_this_process() -> None:
    """Point file descriptor 1 at stderr, for C code and worker processes, too.

    Until the end of the process: what libraries print while it ends would follow the document.
    """
    if sys.stdout is None:  # closed by whoever started this process
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
