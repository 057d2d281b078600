"""Where `wm` starts: a user's mistake is one line and exit code 2."""

import os
import sys
import traceback

import typer

from worldmodels.cli.options import app
from worldmodels.errors import UserError

INTERRUPTED = 130


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, Ctrl-C is 130."""
    from worldmodels.install import check_imports

    # OpenMP threads spin while they wait for each other. By default so long that beside one
    # other busy process training falls from 2,000 to 70 images/s; so it stays above 600.
    # Read when torch is loaded, which is later than here.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        check_imports()
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into a code, or into Abort: it depends
            raise KeyboardInterrupt
        sys.exit(code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("stopped: run the same command again", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = _user_message(error)
        if message is None:
            raise
        if os.environ.get("WM_TRACEBACK"):
            traceback.print_exception(error)
        for line in message.splitlines():
            typer.echo(f"wm: {line}", err=True)
        sys.exit(2)


def _user_message(error: Exception) -> str | None:
    """The line for an error the user can mend; None for a mistake of ours."""
    import errno

    if isinstance(error, UserError):
        return str(error)
    if hasattr(error, "format_message"):  # a wrong option: typer's, or click's under it
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "wm"
        return f"{error.format_message()} (see {command} --help)"
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return f"the disk is full ({error.filename or 'while writing'}): make room, run again"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"no permission to write {error.filename}: name another folder with --run"
        return " ".join(str(error).split())
    if _is_of_env(error) or type(error).__name__ == "WorkerDiedError":
        return " ".join(str(error).split())
    return None


def _is_of_env(error: Exception) -> bool:
    """Whether an environment, or Gymnasium itself, refused something."""
    # Where nobody imported Gymnasium, nothing of it can have been raised.
    module = sys.modules.get("gymnasium.error")
    is_gymnasiums = module is not None and isinstance(error, module.Error)
    return is_gymnasiums or type(error).__module__.startswith("gymnasium")
