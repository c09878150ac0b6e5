"""File to socket: sendfile(2) where the kernel can, a push producer elsewhere.

On a plain TCP connection the bytes of a blob never enter this process. Twisted
has no sendfile, but the class of an accepted connection is a replaceable
attribute of its port: :class:`FileServer` overrides ``doWrite`` and sends from
the file once its own buffers are empty. TLS and UNIX sockets get the same bytes
through :func:`send`'s reading loop.

Rules that make it safe:

* headers that wait in the buffers always leave first;
* a turn sends at most :data:`TURN` bytes, so that clients share the loop;
* a file that ends before its blob does aborts the connection: the client must
  never take a short body for a whole one;
* nothing else writes to the connection meanwhile: the channel answers one
  request at a time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from twisted.internet import main, tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from dtfc.errors import DtfcError
from dtfc.http.ranges import Span
from dtfc.integrity import residency

if TYPE_CHECKING:
    from dtfc.disk import Lane
    from dtfc.web.request import Request
    from dtfc.web.wakeups import Wakeups

T = TypeVar("T")

#: Bytes that one connection may send before the others have their turn ...
TURN = 1024 * 1024

#: ... and all together before other things have theirs: about a millisecond. Who
#: sends alone has all of it.
ROUND = 4 * TURN

#: The least that one may send in a turn, however many others there are.
SHORTEST_TURN = 128 * 1024

#: Times that a stretch is read again because it was dropped from the page cache
#: before its turn came; then it is sent nevertheless.
TRIES = 3

#: Bytes read at once where sendfile is not possible.
BLOCK = 256 * 1024


#: Bytes from which a span is sent corked. A small one must not be: where it is a
#: little more than one segment, the rest would wait for a delayed ACK (40 ms).
CORK_FROM = 4 * 1024 * 1024

#: Linux's name for it, else FreeBSD's. Not macOS', where switching it off leaves
#: the last segment to whatever is written next.
_CORK: int | None = getattr(
    socket, "TCP_CORK", None if sys.platform == "darwin" else getattr(socket, "TCP_NOPUSH", None)
)

#: sendfile(2); None where there is none, and connections get their bytes as TLS
#: does. Called with four arguments by position, which means the same on Linux,
#: FreeBSD and macOS. There the last two may take some bytes before they would
#: block: Python then returns those, and raises only where there are none.
SENDFILE: Callable[[int, int, int, int], int] | None = getattr(os, "sendfile", None)

#: What sendfile says while a socket takes no more (FreeBSD: EBUSY, too).
_LATER = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY})

#: Asks how much of what was written is still on its way (SIOCOUTQ has the same number).
_OUTQ: int | None = getattr(termios, "TIOCOUTQ", None)

#: Seconds for which the page cache's answer holds: to ask at each turn took a
#: seventh of the time of eight downloads at once.
FRESH = 0.002

#: Seconds from which a sendfile must have waited for the disk: then no earlier
#: answer holds, for the page cache may have been emptied.
WAITED = 0.004

#: Asks whether bytes are in the page cache.
resident = residency.calm()


class Shrunk(DtfcError):
    """A blob's file ended before its recorded length."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the file ended at byte {offset}, before its blob did")
        self.offset = offset


class Source(Protocol):
    """What can be sent, in pieces that lie within one MiB of it."""

    @property
    def stretch(self) -> int:
        """The most bytes that :meth:`ready` can be asked for at once; others are of one MiB."""

    def step(self, offset: int, count: int) -> int:
        """Return how many of these bytes to send at once: at least one."""

    def ready(self, offset: int, count: int) -> int:
        """Return the file from which these bytes may leave at once; -1 if from none yet."""

    async def prepare(self, lane: Lane, offset: int, count: int) -> int:
        """Make these bytes ready to leave, and return the file from which they may."""


def _held_back(connection: Any) -> int:
    """Return how many bytes of a connection are in the kernel, or not acknowledged (tcp(7))."""
    if _OUTQ is None:
        return 0
    try:
        raw = fcntl.ioctl(connection.fileno(), _OUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int.from_bytes(raw, sys.byteorder)


class Metered(FileDescriptor):
    """Counts what leaves, so that a reader who does not read is noticed."""

    bytes_out = 0

    def count_out(self, written: T) -> T:
        """Count what the kernel took of a write."""
        if isinstance(written, int) and written > 0:
            self.bytes_out += written
        return written

    @property
    def bytes_taken(self) -> int:
        """Bytes that the client has taken: what the kernel still holds for it does not count."""
        return self.bytes_out - _held_back(self)

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for the client to read."""
        return bool(len(self.dataBuffer) - self.offset + self._tempDataLen)


class LocalServer(unix.Server, Metered):
    """An accepted UNIX connection."""

    def writeSomeData(self, data: bytes) -> Any:  # noqa: N802 -- Twisted's name
        """Write some data and count what the kernel took."""
        return self.count_out(unix.Server.writeSomeData(self, data))


class FileServer(tcp.Server, Metered):
    """An accepted TCP connection that can send from a file."""

    _file: _Sending | None = None
    senders = 0
    """Connections of this process that send from a file now."""
    waited_at = 0.0
    """When a sendfile had to wait for the disk, by ``time.monotonic``."""

    def writeSomeData(self, data: bytes) -> Any:  # noqa: N802 -- Twisted's name
        """Write some data and count what the kernel took."""
        return self.count_out(tcp.Server.writeSomeData(self, data))

    def write_now(self, *parts: bytes | memoryview) -> None:
        """Write what the kernel takes at once, and buffer the rest.

        For small answers: it saves a turn of the loop. Nothing may be buffered
        before (:attr:`unsent`).
        """
        # Joining is cheaper than a vector while there is little to copy.
        data = b"".join(parts)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The loop will meet the same error and close the connection.
            return
        self.bytes_out += sent
        if sent < len(data):
            self.write(data[sent:])

    def send_now(self, head: bytes, fd: int, offset: int, count: int) -> int:
        """Send a head and as much of a file as the kernel takes at once.

        It saves a turn of the loop. Nothing may be buffered before
        (:attr:`unsent`).

        Returns:
            The bytes of the file that left; what is missing of the head is
            buffered.
        """
        try:
            # Without MSG_MORE: measured on loopback, a segment shared by head and
            # file halves the rate of 64 KiB answers.
            sent = self.socket.send(head)
        except OSError:
            # Full, or gone: then the loop will meet the same error and close.
            sent = 0
        self.bytes_out += sent
        if sent < len(head):
            self.write(head[sent:])
            return 0
        try:
            from_file = self._from_file(fd, offset, min(count, TURN))
        except OSError:
            return 0
        self.bytes_out += from_file
        return from_file

    def cork(self, *, on: bool) -> None:
        """Send full segments only, while on; what is left leaves when it is off.

        Measured: sendfile of large files is 1.7 times as fast on loopback.
        """
        if _CORK is not None and not self.disconnected:
            self.socket.setsockopt(socket.IPPROTO_TCP, _CORK, on)

    def send_file(
        self, source: Source, span: Span, told: Callable[[int], None], first: Stretch | None = None
    ) -> Deferred[int]:
        """Send from a source after everything written so far, as long as it is ready.

        It ends early where the next bytes are not ready, or are there no more
        when their turn comes.

        Args:
            source: must stay open until the Deferred fires.
            span: which bytes, at least one.
            told: called with each number of bytes that left.
            first: where the span begins, if that was made ready already.

        Returns:
            A Deferred of the offset up to which they were sent.

        Raises:
            Shrunk: the file ended early; the connection is no longer usable.
            ConnectionLost: the client left (whatever reason Twisted gives).
        """
        if self.disconnected:
            return fail(ConnectionLost())
        self._file = _Sending(source, span, told, first)
        FileServer.senders += 1
        self.startWriting()
        return self._file.done

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for the client to read."""
        return self._file is not None or self._buffered

    @property
    def idle(self) -> bool:
        """Whether nothing waits; the same as ``not unsent``, for the hot path."""
        return self._file is None and not self.dataBuffer and not self._tempDataLen

    @property
    def _buffered(self) -> bool:
        return super().unsent

    def startReading(self) -> None:  # noqa: N802 -- Twisted's name
        """Read when something has come."""
        wakeups: Wakeups | None = getattr(self.server, "wakeups", None)
        if wakeups is None:
            tcp.Server.startReading(self)
        else:
            wakeups.add(self)

    def stopReading(self) -> None:  # noqa: N802 -- Twisted's name
        """Read no more."""
        wakeups: Wakeups | None = getattr(self.server, "wakeups", None)
        if wakeups is None:
            tcp.Server.stopReading(self)
        else:
            wakeups.remove(self)

    def doRead(self) -> Any:  # noqa: N802 -- Twisted's name
        """Hand on what came: what the base does, in one call instead of three."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def doWrite(self) -> Any:  # noqa: N802 -- Twisted's name
        """Send what is buffered, then from the file."""
        sending = self._file
        if sending is None:
            return tcp.Server.doWrite(self)
        if self._buffered:
            # The base would close or stop writing once its buffers are empty;
            # the file comes first.
            closing, self.disconnecting = self.disconnecting, False
            half, self._writeDisconnecting = self._writeDisconnecting, False
            problem = tcp.Server.doWrite(self)
            self.disconnecting, self._writeDisconnecting = closing, half
            self.startWriting()
            return problem
        return self._send_some(sending)

    def _send_some(self, sending: _Sending) -> Any:
        # The more send, the less each may at a time, so that a round stays short.
        senders = FileServer.senders
        left = ROUND if senders == 1 else min(TURN, max(SHORTEST_TURN, ROUND // senders))
        while left > 0 and self._finds_ready(sending):
            piece = min(sending.upto - sending.offset, left)
            try:
                sent = self._from_file(sending.fd, sending.offset, piece)
            except OSError as error:
                return None if error.errno in _LATER else main.CONNECTION_LOST
            if sent == 0:
                self._failed(sending, Failure(Shrunk(sending.offset)))
                break
            self.bytes_out += sent
            sending.offset += sent
            sending.told(sent)
            if sending.offset == sending.end:
                self._sent(sending)
                break
            left = left - sent if sent == piece else 0
        return None

    def _finds_ready(self, sending: _Sending) -> bool:
        """Whether the next bytes may leave now; if not, who sends them is told."""
        try:
            ready = sending.find_ready()
        except Exception:  # noqa: BLE001 -- whatever the source says is for who sends it
            self._failed(sending, Failure())
            return False
        if not ready:
            self._sent(sending)
        return ready

    def _failed(self, sending: _Sending, failure: Failure) -> None:
        self._over()
        sending.done.errback(failure)

    def _from_file(self, fd: int, offset: int, count: int) -> int:
        if SENDFILE is None:  # nobody asks then: see can_send_files
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        began = time.monotonic()
        try:
            return SENDFILE(self.fileno(), fd, offset, count)
        finally:
            ended = time.monotonic()
            if ended - began > WAITED:
                FileServer.waited_at = ended

    def _sent(self, sending: _Sending) -> None:
        self._over()
        self.stopWriting()
        sending.done.callback(sending.offset)
        if self.disconnecting or self._writeDisconnecting:
            self.startWriting()

    def _over(self) -> None:
        self._file = None
        FileServer.senders -= 1

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 -- Twisted's name
        """Tell whoever waits for the file to be sent."""
        sending = self._file
        if sending is not None:
            self._over()
        super().connectionLost(reason)
        if sending is not None and not sending.done.called:
            sending.done.errback(reason)


class Stretch(NamedTuple):
    """Bytes that may leave at once.

    Args:
        fd: from which file.
        length: how many bytes.
        insist: send them even if they have left the page cache again.
    """

    fd: int
    length: int
    insist: bool


class _Sending:
    """A span of a source on its way."""

    __slots__ = ("_asked", "_insist", "done", "end", "fd", "offset", "source", "told", "upto")

    def __init__(
        self, source: Source, span: Span, told: Callable[[int], None], first: Stretch | None
    ) -> None:
        self.source = source
        self.offset = self.upto = span.start
        self.end = span.start + span.length
        self.told = told
        self.done: Deferred[int] = Deferred()
        self.fd = -1
        self._insist = False
        self._asked = time.monotonic()
        if first is not None:
            self.fd, self._insist = first.fd, first.insist
            self.upto += first.length

    def find_ready(self) -> bool:
        """Whether bytes from :attr:`offset` to before :attr:`upto` may leave now, for some."""
        if self.offset == self.upto:
            whole = max(TURN, self.source.stretch)
            if not self._find(whole) and (whole == TURN or not self._find(TURN)):
                return False
            self._asked = time.monotonic()
        elif self._insist:
            self._insist = False
        elif self._asked <= FileServer.waited_at or time.monotonic() - self._asked > FRESH:
            # While the client was slow pages may have been dropped, that were
            # there when it was asked.
            count = min(self.upto - self.offset, TURN)
            if not resident(self.fd, self.offset, count):
                return False
            self.upto = self.offset + count
            self._asked = time.monotonic()
        return True

    def _find(self, most: int) -> bool:
        offset = self.offset
        count = self.source.step(offset, min(self.end - offset, most - offset % TURN))
        self.fd = self.source.ready(offset, count)
        if self.fd < 0:
            return False
        self.upto = offset + count
        return True


@implementer(IPushProducer)
class Pace:
    """Follows the transport's wish to pause; lets a coroutine wait for its turn."""

    def __init__(self) -> None:
        self._paused = False
        self._gone = False
        self._waiter: Deferred[None] | None = None

    def pauseProducing(self) -> None:  # noqa: N802 -- Twisted's name
        """Stop: the client reads more slowly than we write."""
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802 -- Twisted's name
        """Go on."""
        self._paused = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def stopProducing(self) -> None:  # noqa: N802 -- Twisted's name
        """Stop for good: the connection is gone; who waits is cancelled by its request."""
        self._gone = self._paused = True

    async def turn(self) -> None:
        """Wait until bytes may be written.

        Raises:
            ConnectionLost: they never will be.
        """
        while self._paused:
            if self._gone:
                raise ConnectionLost
            # Fired by resumeProducing; cancelled when the client leaves.
            self._waiter = Deferred()
            await self._waiter


async def send(request: Request, lane: Lane, source: Source, parts: Sequence[bytes | Span]) -> None:
    """Send the parts of a planned body.

    Args:
        request: headers are set; nothing of the body was written yet.
        lane: where the file is read if the connection cannot send from it; the
            caller closes the file on the same lane, behind the last read.
        source: where the spans lie.
        parts: literal bytes (multipart framing) and spans of the source.

    Raises:
        Shrunk: the file ended early; the caller must abort the connection.
    """
    pace = Pace()
    request.registerProducer(pace, True)
    try:
        request.write(b"")  # the head, if it has not left yet
        for part in parts:
            if isinstance(part, bytes):
                request.write(part)
            elif request.meter is None:
                await _send_span(request, lane, source, part, pace)
            else:
                await _send_paced(request, lane, source, part, pace)
    finally:
        if request.channel is not None:
            request.unregisterProducer()


async def _send_paced(request: Request, lane: Lane, source: Source, span: Span, pace: Pace) -> None:
    """Send a span no faster than its caller may have it: slice after slice."""
    meter = request.meter
    if meter is None:
        raise ValueError("nothing paces this request")
    offset, end = span.start, span.start + span.length
    while offset < end:
        count = min(end - offset, meter.slice)
        wait = meter.spend(count)
        if wait:
            await deferLater(request.site.clock, wait)
        await _send_span(request, lane, source, Span(offset, count), pace)
        offset += count


async def _send_span(request: Request, lane: Lane, source: Source, span: Span, pace: Pace) -> None:
    transport: Any = request.channel.transport
    if can_send_files(transport):

        def count_out(sent: int) -> None:
            request.sentLength += sent

        await send_from_file(transport, lane, source, span, count_out)
        return
    offset, end = span.start, span.start + span.length
    while offset < end:
        count = source.step(offset, min(end - offset, BLOCK - offset % BLOCK))
        fd = source.ready(offset, count)
        if fd < 0:
            fd = await source.prepare(lane, offset, count)
        block = await lane.run(os.pread, fd, count, offset)
        if not block:
            raise Shrunk(offset)
        await pace.turn()
        request.write(block)
        offset += len(block)


def can_send_files(transport: Any) -> bool:
    """Whether a connection can send from a file: plain TCP, on a port of ours."""
    return SENDFILE is not None and type(transport) is FileServer and not transport.TLS


async def send_from_file(
    transport: FileServer, lane: Lane, source: Source, span: Span, told: Callable[[int], None]
) -> None:
    """Send a span with sendfile, a turn at a time, never waiting for the disk on the loop.

    Args:
        transport: everything written to it so far leaves first.
        lane: where what is not ready is made so.
        source: the file.
        span: which bytes.
        told: called with each number of bytes that left.

    Raises:
        Shrunk: the file ended early; the caller must abort the connection.
        ConnectionLost: the client left.
    """
    offset, end = span.start, span.start + span.length
    tries = TRIES
    first: Stretch | None = None
    large = span.length >= CORK_FROM
    if large:
        transport.cork(on=True)
    try:
        while True:
            upto = await transport.send_file(source, Span(offset, end - offset), told, first)
            if upto == end:
                return
            if upto > offset:
                offset, tries = upto, TRIES
            count = source.step(offset, min(end - offset, TURN - offset % TURN))
            fd = await source.prepare(lane, offset, count)
            tries -= 1
            first = Stretch(fd, count, tries <= 0 or resident is residency.never)
    finally:
        if large:
            transport.cork(on=False)
