"""Where `wm` starts: a user's mistake is one line and exit code 2."""

import contextlib
import os
import sys
import traceback

import typer

from worldmodels.cli.interrupts import INTERRUPTED, STOPPED, Interrupts
from worldmodels.cli.options import app
from worldmodels.errors import UserError

# Errors whose message is for the user, by name: their modules are imported only where needed.
FROM_WORKERS = ("WorkerDiedError", "SharedMemoryError")


def main() -> None:
    """Entry point of the process: `run_command`, and a quick end after Ctrl-C."""
    interrupts = Interrupts()
    interrupts.watch()
    try:
        run_command()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            interrupts.end()
        if not interrupts.pressed:
            raise
    except Exception:
        if not interrupts.pressed:
            raise
    typer.echo(STOPPED, err=True)  # it was swallowed, or became another exception
    interrupts.end()


def run_command() -> None:
    """Call the app; a user's mistake is one line and exit code 2, Ctrl-C is 130.

    Raises: SystemExit with the code, always.
    """
    from worldmodels.hardware import check_imports

    # OpenMP threads spin while they wait for each other. By default so long that beside one
    # other busy process training falls from 2,000 to 70 images/s; so it stays above 600.
    # Read when torch is loaded, which is later than here.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Else SDL, once an environment has drawn in this process, ignores what `kill` sends.
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
    try:
        check_imports()
        with contextlib.redirect_stdout(sys.stdout):  # `--json` redirects it
            code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into a code, or into Abort: it depends
            raise KeyboardInterrupt
        sys.exit(code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo(STOPPED, err=True)
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
            if error.filename is None:  # as of a write, or where a library asks for shared memory
                return "the disk, or shared memory in /dev/shm, is full: make room, run again"
            return f"the disk is full ({error.filename}): make room, run again"
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if refused and error.filename is not None:
            return f"no permission to write {error.filename}: name another folder with --run"
        return " ".join(str(error).split())
    if _is_env_error(error) or type(error).__name__ in FROM_WORKERS:
        return " ".join(str(error).split())
    return None


def _is_env_error(error: Exception) -> bool:
    """Whether an environment, or Gymnasium itself, refused something."""
    # Where nobody imported Gymnasium, nothing of it can have been raised.
    module = sys.modules.get("gymnasium.error")
    is_gymnasiums = module is not None and isinstance(error, module.Error)
    return is_gymnasiums or type(error).__module__.startswith("gymnasium")
