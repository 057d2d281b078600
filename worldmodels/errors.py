"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """Something the user asked for or left on disk cannot be used.

    The message is one line: what was expected, what came, and what to do. `wm` prints it
    without a traceback and ends with exit code 2.
    """
