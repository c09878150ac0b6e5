"""A new process takes the place of this one, and no connection is refused meanwhile.

The old process starts the new one with its listening sockets and two pipes. The
new one says when it serves, and what its process id is; then the old one tells
systemd who the main process is, and the new one, that it may go on; and drains.
If the new one ends before, nothing has changed.

Rules of this file: what comes over a pipe or in the environment may be garbage,
and then the other process counts as gone. Whoever is gone is not waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.daemon.control import BadMessage, Inbox, Message, pack

VARIABLE = "DTFC_HANDOVER"
"""Of the environment: what the new process has inherited."""

PATIENCE = 10.0
"""Seconds that a new process waits to hear that it may go on."""

#: Descriptors of the new process: what it says, and what it hears.
SAYS, HEARS = 3, 4
FIRST_SOCKET = 5

# What systemd says to the process that it has started is for that process alone.
_NOT_FOR_SUCCESSORS = ("WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

# A child of systemd, and not of ours, so that systemd hears of its end.
_RUN = "import os, sys; os.fork() and os._exit(0); os.execv(sys.argv[1], sys.argv[1:])"

Sockets = Mapping[str, Sequence[tuple[int, int]]]
"""Descriptors with their address families, by the setting that they are for."""


@dataclass(slots=True)
class Inheritance:
    """What a process has from the one before it.

    Args:
        sockets: listening ones; what is taken is removed.
        says: where to say that it serves; -1 if there was nobody before.
        hears: where to hear that it may go on.
    """

    sockets: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    says: int = -1
    hears: int = -1

    def take(self, name: str) -> list[tuple[int, int]]:
        """Return the sockets for a setting; none if it is new."""
        return self.sockets.pop(name, [])

    def close_rest(self) -> None:
        """Close what no setting asks for any more."""
        for found in self.sockets.values():
            for fd, _family in found:
                os.close(fd)
        self.sockets.clear()


def inherit(environment: MutableMapping[str, str]) -> Inheritance:
    """Take what the process before this one has left; the variable is for nobody else.

    Args:
        environment: of this process; the variable is removed.
    """
    said = environment.pop(VARIABLE, "")
    if not said:
        return Inheritance()
    try:
        found = json.loads(said)
        sockets = {
            str(name): [(int(fd), int(family)) for fd, family in pairs]
            for name, pairs in found.items()
        }
        for fd in [SAYS, HEARS, *(fd for pairs in sockets.values() for fd, _ in pairs)]:
            os.set_inheritable(fd, False)
    except (ValueError, TypeError, AttributeError, OSError):
        return Inheritance()
    return Inheritance(sockets, SAYS, HEARS)


class Predecessor(Protocol):
    """The process before this one, as this one sees it.

    Args:
        stop: called if it does not want to be succeeded any more.
    """

    _log = Logger()

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._inbox = Inbox()
        self._gone = False
        self._until_end = -1
        self._may_go_on: Deferred[None] | None = None

    async def relieve(self, reactor: Any, pid: int) -> None:
        """Say that this process serves; return when systemd knows of it.

        Args:
            reactor: the clock.
            pid: of this process.
        """
        if self._gone or self.transport is None:
            self._let_go()
            return
        self._may_go_on = Deferred()
        self._may_go_on.addTimeout(PATIENCE, reactor, lambda *_: None)
        self.transport.write(pack("ready", pid=pid))
        await self._may_go_on
        self.transport.loseConnection()
        self._let_go()

    def connect(self, reactor: Any) -> None:
        """Begin to listen to it."""
        from twisted.internet import stdio  # noqa: PLC0415 - imports the reactor

        # The loop closes its own at its end, and after that twistd removes the pid file:
        # the other process must not put its own there before.
        self._until_end = os.dup(SAYS)
        channel: Any = stdio.StandardIO  # mypy knows the class for Windows
        channel(self, stdin=HEARS, stdout=SAYS, reactor=reactor)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take its word."""
        with contextlib.suppress(BadMessage):
            for message in self._inbox.feed(data):
                if message["kind"] == "go":
                    self._go_on()
                elif message["kind"] == "stop":
                    self._log.warn("told to stop by the process that this one was to succeed")
                    self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002, N802 - Twisted's
        """It is gone: there is nobody to wait for."""
        self._gone = True
        self._go_on()

    def _let_go(self) -> None:
        fd, self._until_end = self._until_end, -1
        if fd >= 0:
            os.close(fd)

    def _go_on(self) -> None:
        waiting, self._may_go_on = self._may_go_on, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


class Successor(ProcessProtocol):
    """The process that is to take this one's place.

    Args:
        serves: called with its process id when it serves.
        failed: called when it has ended before.
    """

    def __init__(self, serves: Callable[[int], None], failed: Callable[[], None]) -> None:
        self._serves = serves
        self._failed = failed
        self._inbox = Inbox()
        self._over = False
        self.transport: Any = None

    def go(self) -> None:
        """Tell it that systemd knows of it."""
        self._tell("go")

    def stop(self) -> None:
        """Tell it to end, whatever it is doing."""
        self._over = True
        self._tell("stop")

    def _tell(self, kind: str) -> None:
        # The pipe is not there any more if it has ended.
        with contextlib.suppress(KeyError):
            self.transport.writeToChild(HEARS, pack(kind))

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: ARG002, N802, N803 - Twisted's
        """Take its word."""
        with contextlib.suppress(BadMessage, KeyError, ValueError, TypeError):
            for message in self._inbox.feed(data):
                self._take(message)

    def _take(self, message: Message) -> None:
        if message["kind"] == "ready" and not self._over:
            pid = int(message["pid"])
            self._over = True
            self._serves(pid)

    def childConnectionLost(self, childFD: int) -> None:  # noqa: N802, N803 - Twisted's
        """It has closed what it speaks through: it is gone, or has said all."""
        if childFD == SAYS and not self._over:
            self._over = True
            self._failed()


def start_successor(
    reactor: IReactorProcess,
    protocol: Successor,
    command: Sequence[str],
    environment: Mapping[str, str],
    sockets: Sockets,
) -> None:
    """Start the process that takes over.

    Args:
        reactor: starts it.
        protocol: hears of it.
        command: program (an absolute path) and arguments.
        environment: of this process.
        sockets: that it inherits.

    Raises:
        OSError: it cannot be started.
    """
    theirs: dict[int, int | str] = {0: 0, 1: 1, 2: 2, SAYS: "r", HEARS: "w"}
    told: dict[str, list[tuple[int, int]]] = {}
    fd = FIRST_SOCKET
    for name, pairs in sockets.items():
        told[name] = []
        for ours, family in pairs:
            theirs[fd] = ours
            told[name].append((fd, family))
            fd += 1
    kept = {name: value for name, value in environment.items() if name not in _NOT_FOR_SUCCESSORS}
    reactor.spawnProcess(
        protocol,
        sys.executable,
        [sys.executable, "-I", "-S", "-c", _RUN, *command],
        env={**kept, VARIABLE: json.dumps(told)},
        childFDs=theirs,
    )


class PidFile:
    """twistd's pid file, which two processes cannot both have.

    Args:
        options: twistd's own; it removes at its end the file that they name.
    """

    def __init__(self, options: MutableMapping[str, Any]) -> None:
        self._options = options
        self._path = ""

    def put_aside(self) -> None:
        """Make room for the successor's.

        Raises:
            OSError: the file cannot be renamed.
        """
        path = self._options.get("pidfile") or ""
        if path:
            os.rename(path, f"{path}.old")
            self._options["pidfile"] = f"{path}.old"
            self._path = path

    def put_back(self) -> None:
        """Have it again: there is no successor."""
        path, self._path = self._path, ""
        if path:
            with contextlib.suppress(OSError):
                os.rename(f"{path}.old", path)
            self._options["pidfile"] = path


class Succession:
    """How this process is succeeded.

    Args:
        reactor: starts the process that succeeds it.
        command: that started this one: program and arguments.
        environment: of this process.
        sockets: returns those that the other one inherits.
        pid_file: twistd's.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        environment: Mapping[str, str],
        sockets: Callable[[], Sockets],
        pid_file: PidFile,
    ) -> None:
        self._reactor = reactor
        self._command = command
        self._environment = environment
        self._sockets = sockets
        self._pid_file = pid_file
        self._successor: Successor | None = None

    def begin(self, serves: Callable[[int], None]) -> None:
        """Start the process that takes over, unless it is starting already.

        Args:
            serves: called with its process id when it serves.
        """
        if self._successor is not None:
            self._log.warn("a new process is starting already")
            return
        if os.getpid() == 1:
            self._log.error("not handed over: where this process ends, the container does, too")
            return
        self._successor = Successor(serves, self._failed)
        try:
            self._pid_file.put_aside()
            start_successor(
                self._reactor, self._successor, self._command, self._environment, self._sockets()
            )
        except OSError as error:
            self._successor = None
            self._pid_file.put_back()
            self._log.error("not handed over: {error}", error=error)
            return
        self._log.info("a new process is started, which is to take over")

    def go(self) -> None:
        """Tell the one that serves that systemd knows of it."""
        if self._successor is not None:
            self._successor.go()

    def stop(self) -> None:
        """Have nobody take over: everything is to end."""
        if self._successor is not None:
            self._successor.stop()

    def _failed(self) -> None:
        self._successor = None
        self._pid_file.put_back()
        self._log.error(
            "not handed over: the new process ended before it served; why stands where it writes "
            "its log, or on standard error. This one goes on."
        )
