"""Errors of environments that cannot be made or that break the rules of environments."""

import traceback

import gymnasium as gym

MAX_ERROR_LENGTH = 300  # characters of the text of an exception from foreign code


class EnvError(gym.error.Error):
    """One line for the environment's user: what was expected, what came, and what helps.

    It is raised with its message alone, so that it can be sent from one process to another.
    """


def describe_error(error: BaseException) -> str:
    """Describe type, text and place of an exception from foreign code in one line."""
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
