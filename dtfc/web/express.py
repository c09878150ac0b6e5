"""A connection whose hot GETs take the fast lane."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.disk import Lane
from dtfc.http.ranges import Span
from dtfc.web.channel import Channel, Phase
from dtfc.web.fastlane import ONE_WRITE, Hit, read_now
from dtfc.web.transmit import (
    TURN,
    FileSource,
    Shrunk,
    can_send_files,
    resident,
    send_from_file,
)

_log = Logger()

# Filled and sent within one turn of the loop, so one is enough for all.
_scratch = bytearray(ONE_WRITE)


def _nothing() -> None:
    """Wait one's turn on a lane."""


class ExpressChannel(Channel):
    """A connection that answers what it can before a request is made of it."""

    _direct = False

    def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
        """Begin to wait for a head."""
        self._direct = can_send_files(self.transport)
        super().connectionMade()

    def answers_at_once(self, data: bytes) -> bool:
        """Answer a plain GET of a hot blob; False if the tree has to."""
        lane = self.site.fast_lane
        transport = self.transport
        if lane is None or not self._direct or self.site.draining or transport.unsent:
            return False
        hit = lane.match(data)
        if hit is None:
            return False
        blob, span = hit.blob, hit.span
        site = self.site
        date = site.http_date()
        if span is None:
            small = blob.whole(date)
            if small is not None:
                transport.write_now(small)
                self._since = site.clock.seconds()
                site.log_hit(self, hit, 200, blob.length)
                return True
            status, span, head = 200, Span(0, blob.length), blob.whole_head(date)
        else:
            status, head = 206, blob.part_head(date, span)
        if span.length <= ONE_WRITE:
            body = memoryview(_scratch)[: span.length]
            if not read_now(blob.watched.fd, body, span.start):
                return False
            transport.write_now(head, body)
            sent = span.length
        elif resident(blob.watched.fd, span.start, min(span.length, TURN)):
            sent = transport.send_now(head, blob.watched.fd, span.start, span.length)
        else:
            transport.write(head)
            sent = 0
        if sent == span.length:
            self._since = site.clock.seconds()
            site.log_hit(self, hit, status, sent)
            return True
        self._phase = Phase.ANSWER
        blob.hold()
        sending = Deferred.fromCoroutine(self._send_hot(hit, status, span, sent))
        sending.addErrback(self._hot_failed)
        return True

    async def _send_hot(self, hit: Hit, status: int, span: Span, sent: int) -> None:
        """Send the rest of a part of a hot blob, then go on to the next request."""
        began = self.site.clock.seconds()
        source = FileSource(hit.blob.watched.fd, hit.blob.length)
        lane = Lane(self.site.disk)
        rest = Span(span.start + sent, span.length - sent)
        try:
            async for count in send_from_file(self.transport, lane, source, rest):
                sent += count
        finally:
            if lane.idle:
                hit.blob.release()
            else:
                # Behind the read that is still under way.
                lane.run(_nothing).addBoth(lambda _none: hit.blob.release())
            self.site.log_hit(self, hit, status, sent, began)
        self._since = self.site.clock.seconds()
        self._next_request()

    def _hot_failed(self, failure: Failure) -> None:
        if failure.check(Shrunk):
            _log.error("a blob's file is shorter than it was: {why}", why=failure.getErrorMessage())
            self.abort()
        elif not failure.check(ConnectionLost, ConnectionDone, ConnectionAborted):
            _log.failure("sending a hot blob failed", failure)
            self.abort()
