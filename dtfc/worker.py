"""A worker's door: the parent starts it (``dtfc.daemon.place``), and tells it the rest.

Rules of this file: it wires and decides nothing. Whatever the worker says goes
to the parent, which has twistd's log; what it says when the parent is gone goes
to the file of ``--log``, if there is one.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    formatEventAsClassicLogText,
    globalLogBeginner,
)
from twisted.python.reflect import namedModule
from zope.interface import provider

from dtfc.daemon.place import HEARS, SAYS
from dtfc.daemon.worker import IGNORED, Worker
from dtfc.settings import Settings
from dtfc.steady import Dated, keep_steady

_LONGEST = 64 * 1024


def main(index: int, reactor_module: str) -> None:
    """Run a worker to its end.

    Args:
        index: its place in the crew, from 0.
        reactor_module: the module of the reactor that the parent runs.
    """
    _ignore_signals()
    _set_title(f"dtfc-worker-{index}")
    module: Any = namedModule(reactor_module)
    if "twisted.internet.reactor" not in sys.modules:
        module.install()
    from twisted.internet import reactor as installed  # noqa: PLC0415 - installed only now
    from twisted.internet import stdio  # noqa: PLC0415 - imports the reactor

    from dtfc.node import Node  # noqa: PLC0415 - imports the reactor

    # mypy knows them as a module, and as the class for Windows.
    reactor: Any = installed
    channel: Any = stdio.StandardIO
    keep_steady(reactor)

    def make(
        settings: Settings,
        access_log: Callable[[Sequence[str]], object],
        colleagues: Worker,
        /,
        *,
        chores: bool,
    ) -> Node:
        return Node(settings, Dated(reactor), access_log, colleagues=colleagues, chores=chores)

    worker = Worker(reactor, make)
    globalLogBeginner.beginLoggingTo([observer(worker)], redirectStandardIO=False)
    channel(worker, stdin=HEARS, stdout=SAYS, reactor=reactor)
    # The reactor installs its own for TERM and INT when it starts.
    reactor.callWhenRunning(_ignore_signals)
    reactor.run()
    sys.exit(worker.code)


def observer(worker: Worker) -> ILogObserver:
    """Return what takes the log events of a worker's process.

    Args:
        worker: has the channel to the parent.
    """

    @provider(ILogObserver)
    def take(event: LogEvent) -> None:
        level = event.get("log_level") or LogLevel.info
        namespace = str(event.get("log_namespace", ""))
        if level <= LogLevel.info and not namespace.startswith("dtfc"):
            # Twisted's own "starting on 8080" of each port in each worker.
            return
        if worker.connected_to_parent:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            if text:
                message = {"level": level.name, "from": namespace, "text": text[:_LONGEST]}
                worker.tell("log", **message)
        elif worker.file is not None and (line := formatEventAsClassicLogText(event)):
            worker.file.line(line.rstrip("\n"))

    return cast("ILogObserver", take)


def _ignore_signals() -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


def _set_title(title: str) -> None:
    """Name the process as ``ps`` and ``top`` show it, where that can be done."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(title)
