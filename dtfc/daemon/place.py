"""One worker's place: who is in it, how it fares, and when the next one comes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from dtfc.daemon.comeback import Comeback
from dtfc.daemon.control import Inbox, Message, pack
from dtfc.web.families import REQUESTS, STALL_MAX, Family, from_plain, told_by

#: Descriptors of a worker: what it hears, and what it tells. The reader keeps
#: standard error for last words.
HEARS, SAYS, LAST_WORDS = 0, 3, 2
FIRST_SOCKET = 4

_MOST_LAST_WORDS = 16 * 1024

Spawn = Callable[[ProcessProtocol, int, dict[int, int]], Any]
"""Starts the worker of a place, with descriptors to inherit: theirs to ours."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended.

    Args:
        pid: its process.
        lived: seconds for which it served.
        served: whether it was ever ready.
        clean: whether it ended by itself, with 0.
        how: in words.
        problem: what it could not start with; empty if it said nothing.
    """

    pid: int
    lived: float
    served: bool
    clean: bool
    how: str
    problem: str


class Crewing(Protocol):
    """What a place asks of the crew."""

    def spawn(self, place: Place) -> None:
        """Start a worker in it."""

    def serves(self, place: Place) -> None:
        """The worker is ready."""

    def ended(self, place: Place, end: Ended) -> None:
        """The worker is gone."""

    def take(self, place: Place, message: Message) -> None:
        """Take a message; raises ValueError, KeyError or TypeError for nonsense."""


class Place(ProcessProtocol):
    """A place in the crew, and the process protocol of whoever is in it.

    Args:
        crew: replaces it.
        index: from 0.
        reactor: the clock.
    """

    _log = Logger()

    def __init__(self, crew: Crewing, index: int, reactor: Any) -> None:
        self._crew = crew
        self.index = index
        self._reactor = reactor
        self.comeback = Comeback()
        self.starts = 0
        self.families: list[Family] = []
        """What it has counted, as it said last."""
        self.answered = 0.0
        """Requests that all workers in this place have answered."""
        self._answered_before = 0.0
        self._waiting: Any = None
        self._reset()

    def _reset(self) -> None:
        self.transport: Any = None
        self.pid = 0
        self.alive = False
        self.ready = False
        self.off_ports = False
        self.served = False
        self.began = self.served_from = self.heard = 0.0
        self.ponged = 0
        self.connections = self.peers = 0
        self.longest_stall = 0.0
        self._problem = ""
        self._last_words = b""
        self._inbox = Inbox()
        self._killed_for = ""

    # -- start and end -----------------------------------------------------------

    def start(self, pause: float = 0.0) -> None:
        """Start a worker, now or after some seconds."""
        if pause:
            self._waiting = self._reactor.callLater(pause, self.start)
            return
        self._waiting = None
        self._reset()
        self._answered_before = self.answered
        self.alive = True
        self.starts += 1
        self.began = self.heard = self._reactor.seconds()
        try:
            self._crew.spawn(self)
        except OSError as error:
            self._gone(f"it could not be started: {error}", clean=False)

    def stay_away(self) -> None:
        """Start nobody, if somebody was to be."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.active():
            waiting.cancel()

    def kill(self, why: str) -> None:
        """Kill the worker; why is told when it is gone."""
        if not self.alive or self.transport is None or self._killed_for:
            return
        self._killed_for = why
        try:
            self.transport.signalProcess(signal.SIGKILL.name.removeprefix("SIG"))
        except ProcessExitedAlready:
            self._log.debug("worker {index} had ended already", index=self.index)

    def look_after(self, now: float, *, deaf: float, start_limit: float) -> None:
        """Kill a worker that has not answered, or not become ready, for too long.

        Args:
            now: on the reactor's clock.
            deaf: seconds without an answer.
            start_limit: seconds without being ready.
        """
        if not self.alive:
            return
        if self.ready and now - self.heard > deaf:
            self.kill(f"it has not answered for {deaf:g} s")
        elif not self.served and now - self.began > start_limit:
            self.kill(f"it has not served in {start_limit:g} s")

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """Take note that the process is gone, and all that it said has come."""
        self._gone(_how(reason), clean=reason.check(ProcessDone) is not None)

    def _gone(self, how: str, *, clean: bool) -> None:
        words = self._last_words.decode("utf-8", "replace").strip()
        if words:
            self._log.error(
                "worker {index} said at its end: {words}", index=self.index, words=words
            )
            # The last line of a traceback says what it was.
            how = f"{how} ({words.splitlines()[-1]})"
        end = Ended(
            pid=self.pid,
            lived=self._reactor.seconds() - self.served_from if self.served else 0.0,
            served=self.served,
            clean=clean and not self._killed_for,
            how=f"{self._killed_for}, and was killed" if self._killed_for else how,
            problem=self._problem,
        )
        self.alive = self.ready = False
        self.connections = 0
        self._crew.ended(self, end)

    # -- the channel -------------------------------------------------------------

    def tell(self, kind: str, **facts: Any) -> None:
        """Send a message, if there is anybody."""
        if self.alive and self.transport is not None:
            self.transport.writeToChild(HEARS, pack(kind, **facts))

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's
        """Take what the worker says."""
        if childFD != SAYS:
            self._last_words = (self._last_words + data)[-_MOST_LAST_WORDS:]
            return
        if self._killed_for:
            return
        try:
            for message in self._inbox.feed(data):
                self._take(message)
        except (ValueError, TypeError, KeyError) as error:
            self.kill(f"it sent nonsense ({error})")

    def _take(self, message: Message) -> None:
        self.heard = self._reactor.seconds()
        kind = message["kind"]
        if kind == "ready":
            self.ready = self.served = True
            self.served_from = self.heard
            self._crew.serves(self)
        elif kind == "cannot":
            self._problem = str(message["why"])
        elif kind == "log":
            self._pass_on(str(message["level"]), str(message["from"]), str(message["text"]))
        elif kind == "lines":
            for line in message["lines"]:
                _accesses.info("{line}", line=str(line))
        elif kind == "pong":
            self._take_counts(message)
            self._crew.take(self, message)
        elif kind == "off":
            self.off_ports = True
            self._crew.take(self, message)
        else:
            self._crew.take(self, message)

    def _take_counts(self, message: Message) -> None:
        families = from_plain(message["families"])
        self.ponged = int(message["number"])
        self.connections, self.peers = int(message["connections"]), int(message["peers"])
        self.families = families
        for each in families:
            if each.name == STALL_MAX:
                self.longest_stall = max(each.values.values(), default=0.0)
            elif each.name == REQUESTS:
                self.answered = self._answered_before + sum(each.values.values())

    def _pass_on(self, level: str, namespace: str, text: str) -> None:
        words = f"worker {self.index}: {text}"
        Logger(namespace=namespace).emit(LogLevel.lookupByName(level), "{words}", words=words)


_accesses = Logger(namespace="dtfc.access")


def _how(reason: Failure) -> str:
    number = getattr(reason.value, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit code {getattr(reason.value, 'exitCode', None)}"


def of_each(places: Sequence[Place]) -> list[Family]:
    """Return what is told of each place by itself."""
    counts: dict[str, Callable[[Place], float]] = {
        "up": lambda place: place.ready,
        "starts": lambda place: place.starts,
        "requests": lambda place: place.answered,
        "connections": lambda place: place.connections,
        "loop_stall_seconds_max": lambda place: place.longest_stall,
    }
    return [
        told_by(
            f"dtfc_worker_{name}",
            "worker",
            {str(place.index): float(of(place)) for place in places},
        )
        for name, of in counts.items()
    ]


_RUN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from dtfc.worker import main; main(int(sys.argv[1]), sys.argv[3])"
)
# What systemd says to the process that it has started is for that process alone.
_NOT_FOR_WORKERS = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")


def spawner(reactor: Any, environment: dict[str, str]) -> Spawn:
    """Return what starts a worker as a process of its own.

    Args:
        reactor: starts it; the worker runs one of the same kind.
        environment: of this process.
    """
    kept = {
        name: value for name, value in environment.items() if not name.startswith(_NOT_FOR_WORKERS)
    }

    def spawn(protocol: ProcessProtocol, index: int, inherited: dict[int, int]) -> Any:
        # Standard output is our own, for --log -.
        descriptors: dict[int, int | str] = {HEARS: "w", 1: 1, LAST_WORDS: "r", SAYS: "r"}
        arguments = [str(index), json.dumps(sys.path), type(reactor).__module__]
        return reactor.spawnProcess(
            protocol,
            sys.executable,
            [sys.executable, "-P", "-c", _RUN, *arguments],
            env=kept,
            childFDs=descriptors | inherited,
        )

    return spawn
