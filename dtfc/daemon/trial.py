"""Whether the store can be opened: found out before there is any worker.

The parent keeps no store open. But a store that is broken must end the start at
once, with the message and the exit code that one process alone would end with,
also where twistd waits to hear whether its daemon came up. So a child of the
parent opens the store, tidies up after whoever was killed, and closes it.
"""

from __future__ import annotations

import os
import sys
import traceback

import dtfc
from dtfc.daemon.cannot_start import CannotStart
from dtfc.errors import DtfcError
from dtfc.settings import Settings
from dtfc.store.blobs import open_store

_PIECE = 64 * 1024


def see_python() -> None:
    """See that whoever this process has become can run what workers are started with.

    Raises:
        CannotStart: it cannot.
    """
    for path, mode, what in (
        (sys.executable, os.X_OK, "run"),
        (os.path.dirname(dtfc.__file__), os.R_OK | os.X_OK, "read"),
    ):
        if not os.access(path, mode, effective_ids=True):
            who = f"user {os.geteuid()}"
            raise CannotStart(f"--workers: {who} cannot {what} {path}, as a worker has to")


def try_store(settings: Settings) -> None:
    """Open the store in a child process, and close it.

    For a process of one thread, before its loop runs.

    Raises:
        CannotStart: with what is wrong.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _tell(settings, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if said:
        raise CannotStart(said)
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        raise CannotStart(f"opening the store ended with {code}")


def _tell(settings: Settings, pipe: int) -> None:
    """Be the child: write what is wrong, and end without returning."""
    try:
        said = problem_of(settings)
        os.write(pipe, said.encode("utf-8", "backslashreplace")[:_PIECE])
    finally:
        # Nothing of the parent's may run here: no exit handlers, no buffers.
        os._exit(0)


def problem_of(settings: Settings) -> str:
    """Open the store and close it; return what is wrong, empty if nothing is."""
    try:
        open_store(
            settings.basedir,
            temp=settings.temp,
            fan_out=settings.fan_out,
            reserve=settings.reserve,
        ).close()
    except (DtfcError, OSError) as error:
        return str(error) or type(error).__name__
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must hear of it
        return traceback.format_exc()
    return ""
