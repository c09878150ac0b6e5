"""The writer: a process beside the node that stores small blobs in groups.

Why a process: a small blob costs some fifteen system calls, and each of them
gives up the interpreter's lock and then waits for it, up to the switch
interval, while the node's loop runs. In a process of its own the same calls
take a tenth of the time, and the loop never waits.

What waits in the pipe when a group is done is the next group. The end of the
pipe is the end of the process; what was begun is finished, and the tree made
durable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence

from dtfc.errors import DtfcError, StoreFailure
from dtfc.store import syscalls
from dtfc.store.blobs import open_store
from dtfc.store.facts import Stored
from dtfc.store.frames import ELSEWHERE, FAILED, READY, STORED, Answer, Put, Puts
from dtfc.store.together import Small, Together

#: The exit code that says: not on this system, or not now.
UNABLE = 3

#: Seconds without a request after which the tree is made durable.
IDLE = 2.0

#: Most blobs in a group.
MOST = 64

_READ = 1 << 20


def main(arguments: Sequence[str]) -> int:
    """Serve requests that come on descriptor 0; answer on descriptor 1.

    Args:
        arguments: the store's folder.
    """
    # The node ends us by closing the pipe, whoever is told to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, _READ)
    try:
        store = open_store(arguments[0])
    except DtfcError as error:
        sys.stderr.write(f"{error}\n")
        return UNABLE
    try:
        together = store.together()
    except DtfcError as error:
        sys.stderr.write(f"{error}\n")
        return UNABLE
    except syscalls.Unsupported:
        sys.stderr.write("this system or file system lacks a call that it needs\n")
        return UNABLE
    else:
        try:
            with contextlib.suppress(BrokenPipeError):
                _say([Answer(READY, ELSEWHERE)])
                _serve(together, store.set_reserve)
        finally:
            together.close()
        return UNABLE if together.lost else 0
    finally:
        # For the node's /metrics, and its patience with this disk.
        with contextlib.suppress(BrokenPipeError):
            _say([Answer(READY, FAILED)] * store.failed_syncs)
        store.close()


def _serve(together: Together, set_reserve: Callable[[int], None]) -> None:
    puts = Puts()
    while not together.lost:
        if not select.select([0], [], [], IDLE)[0]:
            together.settle()
            continue
        data = os.read(0, _READ)
        if not data:
            return
        waiting = puts.feed(data)
        for at in range(0, len(waiting), MOST):
            group = waiting[at : at + MOST]
            set_reserve(group[-1].reserve)
            _say(_stored(together, group))


def _stored(together: Together, group: list[Put]) -> list[Answer]:
    results = together.put([Small(put.body, put.name, put.digest) for put in group])
    answers = []
    for put, result in zip(group, results, strict=True):
        if isinstance(result, Stored):
            info = result.info
            answer = Answer(put.number, STORED, 0, info.stored_at, info.digest)
        elif isinstance(result, StoreFailure):
            answer = Answer(put.number, FAILED, result.errno or 0)
        else:
            answer = Answer(put.number, ELSEWHERE)
        answers.append(answer)
    return answers


def _say(answers: list[Answer]) -> None:
    data = memoryview(b"".join(answer.pack() for answer in answers))
    while data:
        data = data[os.write(1, data) :]
