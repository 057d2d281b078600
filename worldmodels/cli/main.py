"""Start `wm`; a user's mistake causes a short message without a traceback, and exit code 2."""

import contextlib
import os
import sys
import traceback

import typer

from worldmodels.cli.interrupts import INTERRUPTED, STOPPED, Interrupts
from worldmodels.cli.options import app
from worldmodels.errors import UserError

# Names of errors whose message is for the user. Their modules are imported only where needed.
FROM_WORKERS = ("WorkerDiedError", "SharedMemoryError")


def main() -> None:
    """Run the command; if Ctrl-C is pressed, end the process within seconds."""
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
    typer.echo(STOPPED, err=True)  # the interrupt was swallowed, or became another exception
    interrupts.end()


def run_command() -> None:
    """Run the app and exit; the exit code is 2 after a user's mistake, and 130 after Ctrl-C.

    Raises: SystemExit with the exit code, even after success. An error that is not a user's
        mistake is raised unchanged.
    """
    from worldmodels.hardware import check_imports

    # OpenMP threads spin while they wait for each other. By default they spin so long that one
    # other busy process slows training from 2,000 to 70 images/s. With this value it stays above
    # 600. The variable is read when torch is loaded, which happens later.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Without this, SDL ignores the signal of `kill` once an environment has drawn in this process.
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
    try:
        check_imports()
        with contextlib.redirect_stdout(sys.stdout):  # restores what `--json` redirects
            code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into this code, or into Abort
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
    """Return the message for an error that the user can correct, or None for any other error."""
    import errno

    if isinstance(error, UserError):
        return str(error)
    if hasattr(error, "format_message"):  # a wrong option, refused by typer or by click
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "wm"
        return f"{error.format_message()} (see {command} --help)"
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            if error.filename is None:  # from a write, or from a request for shared memory
                return "the disk, or shared memory in /dev/shm, is full: make room and run again"
            return f"the disk is full ({error.filename}): make room and run again"
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if refused and error.filename is not None:
            return f"no permission to write {error.filename}: name another folder with --run"
    if isinstance(error, OSError) or _is_env_error(error) or type(error).__name__ in FROM_WORKERS:
        return " ".join(str(error).split())
    return None


def _is_env_error(error: Exception) -> bool:
    """Whether the error comes from an environment or from Gymnasium itself."""
    # If Gymnasium was never imported, none of its errors can have been raised.
    module = sys.modules.get("gymnasium.error")
    is_gymnasiums = module is not None and isinstance(error, module.Error)
    return is_gymnasiums or type(error).__module__.startswith("gymnasium")
