"""Ending a start that failed: one line for the operator, exit code 1, no traceback."""

from __future__ import annotations

import atexit
import os
import sys


class CannotStart(SystemExit, Exception):
    """The daemon cannot start.

    It is both, because twistd looks for both: it removes its pid file and tells
    the process that waits for a daemon to come up only on an ``Exception``, and
    the interpreter prints the message without a traceback and exits with 1 only
    on a ``SystemExit`` whose code is text.

    Args:
        message: what is wrong, and what to do about it; one line. A
            daemonizing twistd shows the first 80 bytes or so.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"dtfc: {message}")


# twistd prints the qualified name before the message and cuts off after 100 bytes.
CannotStart.__module__ = "dtfc"


def end_with(error: CannotStart) -> None:
    """Make the process end with this message and exit code 1, when it ends.

    For a start that fails after the loop has begun to run: what is raised in it
    twistd turns into a crash report, and the exit code stays 0.
    """

    def end() -> None:
        # Not sys.stderr, which twistd has made a part of its log.
        if sys.__stderr__ is not None:
            sys.__stderr__.write(f"{error}\n")
            sys.__stderr__.flush()
        os._exit(1)

    # What is registered last is called first: nothing of the others' is left out
    # but what an exit at once leaves out, and no thread runs any more.
    atexit.register(end)
