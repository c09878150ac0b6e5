"""A worker's side of ``--workers``: what the parent tells it, it does.

Rules of this file: settings, certificates and sockets come from the parent, and
nothing from file or environment. Signals are the parent's business. When the
parent is gone, the worker drains and ends, so that no orphan keeps a port.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from threading import get_ident
from typing import Any, Protocol

from twisted.internet import unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Protocol as Connection
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from dtfc.daemon.control import BadMessage, Inbox, Message, pack
from dtfc.daemon.listen import adopt
from dtfc.daemon.tls import CurrentContext, Keys
from dtfc.errors import Busy, DtfcError
from dtfc.logfile import ReopenableFile
from dtfc.settings import Settings
from dtfc.settings.plain import from_plain as settings_from_plain
from dtfc.web.families import Family
from dtfc.web.families import from_plain as families_from_plain
from dtfc.web.samples import Totals

ACCEPTS = 1
"""Connections that are taken in one turn of the loop: the others get theirs."""

ASK_LIMIT = 5.0
"""Seconds that the parent gets to tell what all workers have counted."""

LAST_WORD = 5.0
"""Seconds that the parent gets to take what a worker that ends has said."""

_SWITCH_INTERVAL = 0.0005

IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
"""Who stops a group of processes, or a terminal, means the node: the parent tells us."""


class Working(Protocol):
    """The node, as a worker sees it."""

    @property
    def site(self) -> IProtocolFactory:
        """Makes the protocol of each connection."""

    def listening(self, port: IListeningPort) -> None:
        """Take note of a port, before its first connection."""

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Begin to serve."""

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """End."""

    def reopen_log(self) -> None:
        """Open anew what the node writes itself."""

    def reload(self, settings: Settings) -> None:
        """Put new settings in force."""

    def read_peers(self) -> None:
        """Read the peer list again."""

    def announce_end(self) -> None:
        """Say in /readyz that it will take no new work soon."""

    def set_succeeded(self, *, yes: bool) -> None:
        """Say whether another process serves in its place, and does the chores."""

    async def drain(self) -> None:
        """Take no new work, and return when what is in flight is done."""

    def abort(self) -> None:
        """Cut what is in flight."""

    def counts(self) -> Sequence[Family]:
        """What this process counts for itself."""

    def numbers(self) -> tuple[int, int]:
        """How many connections and peers there are."""


class Make(Protocol):
    """Makes the node of a worker."""

    def __call__(
        self,
        settings: Settings,
        access_log: Callable[[Sequence[str]], object],
        colleagues: Worker,
        /,
        *,
        chores: bool,
    ) -> Working:
        """Make it, without starting it."""


class Worker(Connection):
    """The worker's end of the channel, and its life.

    Args:
        reactor: the loop.
        make: makes the node; this object is its colleagues.
    """

    _log = Logger()
    transport: Any

    def __init__(self, reactor: Any, make: Make) -> None:
        self.file: ReopenableFile | None = None
        self.connected_to_parent = False
        self.code = 0
        self._reactor = reactor
        self._make = make
        self._inbox = Inbox()
        self._settings: Settings | None = None
        self._node: Working | None = None
        self._ports: list[IListeningPort] = []
        self._contexts: list[CurrentContext | None] = []
        self._draining: Deferred[None] | None = None
        self._succeeded = False
        self._stopped = False
        self._ended = False
        self._last: Any = None
        self._loop_thread = get_ident()
        self._clogged = False
        self._lost = 0
        self._present = (1, 1)
        self._totals: tuple[float, Totals] | None = None
        self._numbers = itertools.count(1)
        self._asking: dict[int, Deferred[Sequence[Family]]] = {}

    # -- the channel --------------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Take note that the parent can hear."""
        self.connected_to_parent = True
        self._loop_thread = get_ident()
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: ARG002, N802 - Twisted's
        """Drain and end: the parent is gone, or has heard the last."""
        self.connected_to_parent = False
        if self._ended:
            self._stop_loop()
        elif not self._stopped:
            self._log.error("the parent is gone: this worker drains")
            self._drain()

    # What a producer of lines does when the parent does not keep up.

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Count lines instead of sending them: memory is not for them."""
        self._clogged = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Send lines again."""
        self._clogged = False
        lost, self._lost = self._lost, 0
        if lost:
            self._log.warn(
                "{lost} lines of the access log were lost: without --log all go through "
                "the parent, which did not keep up",
                lost=lost,
            )

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing: the end of the channel is told otherwise."""

    def _send_lines(self, lines: Sequence[str]) -> None:
        """Send lines of the access log, which come from a thread of the disk's."""
        if get_ident() != self._loop_thread:
            # A transport belongs to the loop; two threads in it lose lines.
            self._reactor.callFromThread(self._send_lines, lines)
        elif self._clogged:
            self._lost += len(lines)
        else:
            self.tell("lines", lines=list(lines))

    def tell(self, kind: str, **facts: Any) -> None:
        """Send the parent a message, if it is there."""
        if self.connected_to_parent:
            self.transport.write(pack(kind, **facts))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Do what the parent says."""
        try:
            for message in self._inbox.feed(data):
                self._take(message)
        except BadMessage:
            self._log.failure("the parent sent nonsense")
            self.transport.loseConnection()

    def _take(self, message: Message) -> None:
        act = getattr(self, f"_told_{message['kind']}", None)
        if act is None:
            raise BadMessage(f"a message of kind {message['kind']!r}")
        try:
            act(message)
        except Exception as error:  # noqa: BLE001 - a broken reload must not end what is served
            if message["kind"] != "start":
                self._log.failure("what the parent said failed: {kind}", kind=message["kind"])
            elif isinstance(error, DtfcError | OSError):
                self._cannot(error)
            else:
                self._log.failure("the start failed")
                self._cannot(error)

    # -- what it is told ----------------------------------------------------

    def _told_start(self, message: Message) -> None:
        settings = settings_from_plain(message["settings"])
        self._settings = settings
        write = self._open_log(settings, message["log_fd"])
        sys.setswitchinterval(_SWITCH_INTERVAL)
        node = self._make(settings, write, self, chores=message["index"] == 0)
        node.startService()
        self._node = node
        if message["announced"]:
            node.announce_end()
        for each, keys in zip(message["sockets"], message["keys"], strict=True):
            self._adopt(node, each["fd"], each["family"], keys)
        self.tell("ready")

    def _adopt(self, node: Working, fd: int, family: int, keys: dict[str, str] | None) -> None:
        context = CurrentContext(Keys(**keys).context()) if keys is not None else None
        factory: Any = node.site
        if context is not None:
            factory = TLSMemoryBIOFactory(context, False, factory)
        port: Any = adopt(self._reactor, fd, family, factory)
        take_turns(port)
        self._ports.append(port)
        self._contexts.append(context)
        node.listening(port)

    def _open_log(self, settings: Settings, fd: int | None) -> Callable[[Sequence[str]], object]:
        if settings.log is not None:
            self.file = ReopenableFile(settings.log, fd)
            return self.file.lines
        return self._send_lines

    def _cannot(self, error: Exception) -> None:
        self.tell("cannot", why=str(error))
        self.code = 1
        self._stop()

    def _told_reload(self, message: Message) -> None:
        if self._node is None:
            return
        # All that can refuse comes first.
        contexts = [Keys(**each).context() if each else None for each in message["keys"]]
        settings = settings_from_plain(message["settings"])
        self._node.reload(settings)
        self._settings = settings
        for current, fresh in zip(self._contexts, contexts, strict=True):
            if current is not None and fresh is not None:
                current.inner = fresh

    def _told_reopen(self, _message: Message) -> None:
        if self.file is not None:
            self.file.reopen()
        if self._node is not None:
            self._node.reopen_log()

    def _told_ping(self, message: Message) -> None:
        self._present = (message["serving"], message["workers"])
        self._totals = self._reactor.seconds(), Totals(*message["totals"])
        if self._node is not None:
            connections, peers = self._node.numbers()
            families = [each.plain() for each in self._node.counts()]
            self.tell(
                "pong",
                number=message["number"],
                connections=connections,
                peers=peers,
                families=families,
            )

    def _told_node(self, message: Message) -> None:
        asking = self._asking.pop(message["number"], None)
        if asking is not None and not asking.called:
            asking.callback(families_from_plain(message["families"]))

    def _told_peers(self, _message: Message) -> None:
        if self._node is not None:
            self._node.read_peers()

    def _told_announce(self, _message: Message) -> None:
        if self._node is not None:
            self._node.announce_end()

    def _told_succeeded(self, message: Message) -> None:
        # The parent ends it earlier, if it is to end earlier.
        self._succeeded = self._succeeded or message["yes"]
        if self._node is not None:
            self._node.set_succeeded(yes=message["yes"])

    def _told_drain(self, _message: Message) -> None:
        self._drain()

    def _told_cut(self, _message: Message) -> None:
        if self._node is not None:
            self._node.abort()
        self._stop()

    # -- the end ------------------------------------------------------------

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = _run(self._drain_and_stop(), self._log)

    async def _drain_and_stop(self) -> None:
        if self._node is not None and self._settings is not None:
            drained = Deferred.fromCoroutine(self._node.drain())
            settings = self._settings
            timeout = settings.handover_timeout if self._succeeded else settings.drain_timeout
            drained.addTimeout(timeout, self._reactor)
            await self._close_ports()
            self.tell("off")
            try:
                await drained
            except DeferredTimeout:
                self._node.abort()
        self._stop()

    async def _close_ports(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            if isinstance(port, unix.Port):
                # To stop it would remove its file, which is the parent's to do.
                port.stopReading()
            else:
                await maybeDeferred(port.stopListening)

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            _run(self._end(), self._log)

    async def _end(self) -> None:
        try:
            await self._close_ports()
            if self._node is not None:
                await self._node.stopService()
        except Exception:  # noqa: BLE001 - it ends, whatever goes wrong on the way
            self._log.failure("stopping failed")
            self.code = 1
        self._ended = True
        if self.connected_to_parent:
            # What was said goes out first; see connectionLost.
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._last = self._reactor.callLater(LAST_WORD, self._stop_loop)
        else:
            self._reactor.callLater(0, self._stop_loop)

    def _stop_loop(self) -> None:
        if self._last is not None and self._last.active():
            self._last.cancel()
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            self._log.debug("stopped already")

    # -- the colleagues -----------------------------------------------------

    async def counts(self) -> Sequence[Family]:
        """Return what all processes of the node have counted together.

        Raises:
            Busy: the parent did not answer in time.
        """
        number = next(self._numbers)
        asking: Deferred[Sequence[Family]] = Deferred()
        self._asking[number] = asking
        asking.addTimeout(ASK_LIMIT, self._reactor)
        self.tell("ask", number=number)
        try:
            return await asking
        except DeferredTimeout:
            raise Busy("what the workers count") from None
        finally:
            self._asking.pop(number, None)

    def present(self) -> tuple[int, int]:
        """Return how many workers serve, and how many there are to be."""
        return self._present

    def totals(self) -> tuple[float, Totals] | None:
        """Return what all have counted together, and when that was heard; None if not yet."""
        return self._totals

    def peers_read(self) -> None:
        """Tell the others to read the peer list again."""
        self.tell("peers")


def take_turns(port: Any) -> None:
    """Have a port take :data:`ACCEPTS` connections in a turn of the loop.

    Twisted takes a hundred, and more when there were many: of a burst on a
    shared socket the first to wake would get all.
    """
    take = port.doRead

    def take_few() -> Any:
        port.numberAccepts = ACCEPTS
        return take()

    port.doRead = take_few


def _run(work: Coroutine[Any, Any, None], log: Logger) -> Deferred[None]:
    running = Deferred.fromCoroutine(work)
    return running.addErrback(lambda failure: log.failure("the worker's end", failure))
