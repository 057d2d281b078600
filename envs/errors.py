"""Errors of environments that cannot be made or that return invalid results."""

import traceback

import gymnasium as gym

MAX_ERROR_LENGTH = 300  # characters of the text of an exception from foreign code


class EnvError(gym.error.Error):
    """An error of an environment; its one-line message describes the problem and the solution.

    The message is the error's only argument, so that a process can send the error to another
    process.
    """


def describe_error(error: BaseException) -> str:
    """Describe an exception from foreign code in one line, by its type, its text and its place."""
    try:
        text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    except Exception:  # foreign code makes its text, too
        text = ""
    if len(text) > MAX_ERROR_LENGTH:
        text = f"{text[:MAX_ERROR_LENGTH]}..."
    words = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):  # its text has the place
        return words
    frames = traceback.extract_tb(error.__traceback__)
    files = [each for each in frames if not each.filename.startswith("<frozen importlib")]
    place = f" ({files[-1].filename}, line {files[-1].lineno})" if files else ""
    return words + place
