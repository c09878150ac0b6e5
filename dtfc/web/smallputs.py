"""The node's side of the writer (``dtfc.store.writer``): small PUTs go there.

The process is started with the node, because starting one stops the loop for
some milliseconds (28 were seen, on a busy machine), but it does nothing before
the first small PUT, so a node that gets none pays for an idle interpreter and
for no log. Until it is ready, when it cannot do its work, and when it has died,
PUTs take the ordinary road, which gives the same answer more slowly.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.errors import StoreFailure
from dtfc.store.facts import Stored
from dtfc.store.frames import FAILED, READY, STORED, Answer, Answers, Put
from dtfc.store.together import LONGEST, possible
from dtfc.store.writer import UNABLE

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.store.blobs import Store

__all__ = ["LONGEST", "SmallPuts", "Writer"]

#: Seconds between two attempts to have a writer.
RETRY = 5.0

#: Seconds that it gets to end.
PATIENCE = 30.0

_log = Logger()

#: What makes it begin.
_GO = b"\n"

# It ends when the node does, whoever is told to stop.
_RUN = (
    "import json, os, signal, sys; "
    "deaf = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2); "
    "[signal.signal(number, signal.SIG_IGN) for number in deaf]; "
    "os.read(0, 1) or sys.exit(0); "
    "sys.path[:] = json.loads(sys.argv[1]); "
    "from dtfc.store.writer import main; sys.exit(main(sys.argv[2:]))"
)


class SmallPuts(Protocol):
    """Where small blobs are stored in groups."""

    def put(self, body: bytes, name: str | None, digest: Digest | None) -> Deferred[Stored | None]:
        """Store a small blob durably; None if it must go the ordinary road.

        Raises:
            StoreFailure: the disk refuses.
        """


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Who waits for an answer, and what the answer does not say."""

    done: Deferred[Stored | None]
    name: str | None
    length: int


class Writer(ProcessProtocol):
    """A process that stores small blobs, and is begun anew when it dies.

    Args:
        store: the store; only its folder and its reserve are asked for.
        reactor: starts the process, and knows the time.
    """

    transport: Any

    def __init__(self, store: Store, reactor: Any) -> None:
        self._store = store
        self._reactor = reactor
        self._running = False
        self._asked = False
        self._ready = False
        self._open = False
        self._unable = False
        self._next_try = 0.0
        self._number = 0
        self._waiting: dict[int, _Waiting] = {}
        self._answers = Answers()
        self._ended: Deferred[None] | None = None

    def put(self, body: bytes, name: str | None, digest: Digest | None) -> Deferred[Stored | None]:
        """Store a small blob durably; None if it must go the ordinary road.

        Raises:
            StoreFailure: the disk refuses.
        """
        if not (self._ready and self._open):
            self._ask()
            return succeed(None)
        self._number = (self._number + 1) % READY
        number = self._number
        put = Put(number, self._store.reserve, digest, name, body)
        # Whoever cancels gives up the answer only: the blob is on its way.
        done: Deferred[Stored | None] = Deferred()
        self._waiting[number] = _Waiting(done, name, len(body))
        self.transport.writeToChild(0, put.pack())
        return done

    # -- the process --------------------------------------------------------

    def _ask(self) -> None:
        self.start()
        if self._open and not self._asked:
            self._asked = True
            self.transport.writeToChild(0, _GO)

    def start(self) -> None:
        """Start the process, unless it runs or cannot; it waits for the first small PUT."""
        now = self._reactor.seconds()
        if self._running or self._unable or self._ended is not None or now < self._next_try:
            return
        if not possible():
            self._unable = True
            _log.info("small PUTs are stored one by one: this system lacks a call for groups")
            return
        self._next_try = now + RETRY
        self._running = self._open = True
        arguments = ["-c", _RUN, json.dumps(sys.path), self._store.layout.basedir]
        try:
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-I", *arguments],
                env={},
                childFDs={0: "w", 1: "r", 2: "r"},
            )
        except OSError as error:
            # Whoever shed its privileges may not be allowed to run Python.
            self._running = self._open = False
            self._unable = True
            _log.info("small PUTs are stored one by one: {error}", error=error)

    def outReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Take answers."""
        for answer in self._answers.feed(data):
            if answer.number != READY:
                self._answered(answer)
            elif answer.outcome == FAILED:
                self._store.note_failed_sync()
            else:
                self._ready = True

    def _answered(self, answer: Answer) -> None:
        waiting = self._waiting.pop(answer.number, None)
        if waiting is None or waiting.done.called:
            return
        if answer.outcome == STORED:
            waiting.done.callback(Stored(answer.info(waiting.name, waiting.length), new=True))
        elif answer.outcome == FAILED:
            error = OSError(answer.errno, "the disk did not take it")
            waiting.done.errback(Failure(StoreFailure("make small blobs durable", error)))
        else:
            waiting.done.callback(None)

    def errReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Pass on what it complains of."""
        _log.warn("the writer of small blobs: {text}", text=data.decode("utf-8", "replace"))

    def inConnectionLost(self) -> None:  # noqa: N802 -- Twisted's name
        """Ask nothing more of it: it has gone, or is about to."""
        self._open = False

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 -- Twisted's name
        """Let the ordinary road answer whoever waits."""
        code = getattr(reason.value, "exitCode", None)
        # One that was killed may do better another time.
        if code == UNABLE or (code is not None and self._asked and not self._ready):
            self._unable = True
        idle = not self._asked
        self._running = self._open = self._asked = self._ready = False
        self._answers = Answers()
        if code != 0 and not idle:
            _log.warn("the writer of small blobs ended: {why}", why=reason.getErrorMessage())
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if not each.done.called:
                each.done.callback(None)
        if self._ended is not None:
            self._ended.callback(None)

    def stop(self) -> Deferred[None]:
        """Let it finish, make the tree durable and end; call it once."""
        self._ended = ended = Deferred[None]()
        if self._running:
            self.transport.closeChildFD(0)
            # What it leaves in its log the next one to open the store takes up.
            killing = self._reactor.callLater(PATIENCE, self.transport.signalProcess, "KILL")
            ended.addCallback(lambda _none: killing.cancel() if killing.active() else None)
        else:
            ended.callback(None)
        return ended
