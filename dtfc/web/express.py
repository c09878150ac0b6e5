"""A connection whose hot GETs take the fast lane."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.access.buckets import site_of
from dtfc.disk import Lane
from dtfc.errors import Corrupt
from dtfc.http.ranges import Span
from dtfc.web.channel import Channel, Phase
from dtfc.web.edge import is_local_address
from dtfc.web.fastlane import FastLane, Hit, Match
from dtfc.web.hotblobs import SMALL, read_now
from dtfc.web.transmit import (
    TURN,
    Shrunk,
    can_send_files,
    resident,
    send_from_file,
)

#: Parts up to this size are copied into one write with their head; larger ones
#: are cheaper to send from the file.
ONE_WRITE = 16 * 1024

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
        site, transport = self.site, self.transport
        lane = site.fast_lane
        if lane is None or not self._direct or site.draining or not transport.idle:
            return False
        if site.edge.terms.https and not is_local_address(self.address):
            return False  # it is told to come back over https
        match = lane.match(data)
        if match is None:
            return False
        if site.callers.limits_addresses:
            return self._answer_counted(match, lane)
        return self._answer_match(match, lane)

    def _answer_counted(self, match: Match, lane: FastLane) -> bool:
        """Answer, if the address may have so much now; the tree says what if not."""
        callers, key = self.site.callers, site_of(self.address)
        if not callers.lets_pass(key, match[2]):
            return False
        answered = self._answer_match(match, lane)
        if not answered:
            callers.give_back(key, match[2])
        return answered

    def _answer_match(self, match: Match, lane: FastLane) -> bool:
        hit, start, count = match
        whole = hit.status == 200
        if whole and count <= SMALL:
            return self._answer_small(hit, lane)
        blob = hit.blob
        if not blob.source.reading.is_verified(start, min(TURN, count)):
            return False
        alone = hit.for_node
        if whole:
            head = blob.whole_head(lane.date, alone=alone)
        else:
            head = blob.part_head(lane.date, start, count, alone=alone)
        sent = self._send_first(blob.watched.fd, head, start, count)
        if sent in (count, -1):
            if sent == count:
                self._answered(hit, sent, lane.now, -1 if whole else start)
            return sent == count
        self._phase = Phase.ANSWER
        blob.hold()
        sending = Deferred.fromCoroutine(self._send_hot(hit, Span(start, count), sent))
        sending.addErrback(self._hot_failed)
        return True

    def _answer_small(self, hit: Hit, lane: FastLane) -> bool:
        """Answer with a blob that fits into one write, if it is at hand."""
        small = hit.blob.whole(lane.date)
        if small is None:
            return False
        self.transport.write_now(small)
        self._answered(hit, hit.blob.length, lane.now)
        return True

    def _send_first(self, fd: int, head: bytes, start: int, count: int) -> int:
        """Send a head and what can leave with it at once.

        Returns:
            The bytes that left of the ``count`` from ``start`` on; -1 if not
            even the head did, and the tree has to answer.
        """
        if count <= ONE_WRITE:
            body = memoryview(_scratch)[:count]
            if not read_now(fd, body, start):
                return -1
            self.transport.write_now(head + body)
            return count
        if resident(fd, start, min(TURN, count)):
            sent: int = self.transport.send_now(head, fd, start, count)
            return sent
        self.transport.write(head)
        return 0

    def _answered(self, hit: Hit, sent: int, now: float, first: int = -1) -> None:
        self._since = self.site.ticks()
        self.site.log_hit(self, hit, sent, now, 0.0, first)

    async def _send_hot(self, hit: Hit, span: Span, sent: int) -> None:
        """Send the rest of a part of a hot blob, then go on to the next request."""
        began = self.site.ticks()
        lane = Lane(self.site.disk)
        rest = Span(span.start + sent, span.length - sent)

        self.hot = (hit.blob.watched.info.digest.hex, span.length, began)
        self.hot_sent = sent

        def count_out(more: int) -> None:
            nonlocal sent
            sent += more
            self.hot_sent = sent

        try:
            await send_from_file(self.transport, lane, hit.blob.source, rest, count_out)
        finally:
            if lane.idle:
                hit.blob.release()
            else:
                # Behind the read that is still under way.
                lane.run(_nothing).addBoth(lambda _none: hit.blob.release())
            self._since = self.site.ticks()
            self.hot, self.hot_sent = None, 0
            first = -1 if hit.status == 200 else span.start
            now, took = self.site.clock.seconds(), self._since - began
            self.site.log_hit(self, hit, sent, now, took, first)
        self._next_request()

    def _hot_failed(self, failure: Failure) -> None:
        if failure.check(Corrupt):
            self.abort()  # whoever found it out has said so
        elif failure.check(Shrunk):
            _log.error("a blob's file is shorter than it was: {why}", why=failure.getErrorMessage())
            self.abort()
        elif not failure.check(ConnectionLost, ConnectionDone, ConnectionAborted):
            _log.failure("sending a hot blob failed", failure)
            self.abort()
