"""The factory of all connections, and what bounds them together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web import http, server
from twisted.web.resource import IResource

from dtfc.access.buckets import site_of
from dtfc.access.decisions import Network, client_of
from dtfc.access.links import without_signature
from dtfc.disk import Disk
from dtfc.errors import TooManyConnections
from dtfc.http.heads import Limits
from dtfc.http.problems import problem_for
from dtfc.web.accesslog import LONGEST_RANGE, About, Entry, host_of
from dtfc.web.auditlog import Deed, is_deed
from dtfc.web.callers import Callers, CallerTerms
from dtfc.web.channel import Channel, raw_answer
from dtfc.web.edge import Edge, EdgeTerms
from dtfc.web.express import ExpressChannel
from dtfc.web.fastlane import FastLane, Hit
from dtfc.web.gate import caller_of
from dtfc.web.request import Request
from dtfc.web.tally import BLOB, OTHER, Tally, route_of
from dtfc.web.turnedaway import MOST_TURNED_AWAY, TurnedAway

#: Seconds between two looks for connections that may be given up.
LOOK_AGAIN = 0.1

#: Seconds between two looks for connections that are idle while the node drains.
LOOK_FOR_IDLE = 0.1

_log = Logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a client may take, and how much it may hold.

    Args:
        header: seconds from the first byte of a head to its last.
        idle: seconds between requests.
        body_rate: lowest rate of a body, bytes per second.
        body_grace: seconds over which that rate is measured.
        write_stall: seconds in which the client must take something.
        send_rate: lowest rate at which it may take an answer, bytes per second.
        last_call: seconds in which an idle connection may still send a request while the
            node drains, unless another process serves in its place: then as ever.
        linger: seconds to wait, after the last answer, for the client to close.
        ahead: bytes of later requests that are kept while one is answered.
        drain: bytes of an unread body that are read to keep a connection.
        connections: connections at once; further ones wait to be accepted.
        per_address: connections at once from one address; further ones are
            told so, and closed. None for no limit.
    """

    header: float = 10
    idle: float = 60
    body_rate: int = 1024
    body_grace: float = 20
    write_stall: float = 30
    send_rate: int = 1024
    last_call: float = 1
    linger: float = 5
    ahead: int = 16 * 1024
    drain: int = 64 * 1024
    connections: int = 1000
    per_address: int | None = None


class Site(server.Site):
    """The factory of all connections.

    Args:
        resource: where requests are routed.
        clock: the reactor, or a fake clock.
        limits: of a request's head.
        bounds: of a client and of all together.
        access_log: takes what is to be said of each request.
        disk: where blocking work runs.
        ticks: seconds that no change of the time of day moves, for deadlines;
            None for the clock's.
    """

    noisy = False

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        limits: Limits,
        bounds: Bounds,
        *,
        access_log: Callable[[Entry], object],
        disk: Disk,
        ticks: Callable[[], float] | None = None,
    ) -> None:
        server.Site.__init__(
            self, resource, requestFactory=Request, parsePOSTFormSubmission=False, reactor=clock
        )
        self.clock = clock
        self.ticks = ticks or clock.seconds
        self.limits = limits
        self.bounds = bounds
        self.channels: set[Channel] = set()
        self.tally = Tally()
        self.leaving = False
        self.draining = False
        self.succeeded = False
        """Whether another process serves in this one's place."""
        self._draining_since = 0.0
        self.disk = disk
        self.callers = Callers(CallerTerms(), self.ticks)
        self.edge = Edge(EdgeTerms())
        self.fast_lane: FastLane | None = None
        self.trusted_proxies: tuple[Network, ...] = ()
        self.audit: Callable[[Deed], object] | None = None
        self._access_log = access_log
        self._date = (0, b"")
        self._sweep = LoopingCall(self._check_all)
        self._sweep.clock = clock
        self._last_calls = LoopingCall(self._close_idle)
        self._last_calls.clock = clock
        self._empty: Deferred[None] | None = None
        self._ports: list[Any] = []
        self._full = False
        self._parked: deque[Channel] = deque()
        self._per_address: Counter[str] = Counter()
        self._least_worth: list[Channel] = []
        self._looked_at = 0.0
        self.turned_away = 0

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 -- Twisted's name
        """Speak HTTP/1.1 alone, also where TLS would negotiate h2."""
        return [b"http/1.1"]

    def add_port(self, port: Any) -> None:
        """Note a port whose connections come here, so that it can be paused."""
        self._ports.append(port)

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: N802 -- Twisted's name
        """Make the protocol of a new connection; None closes it at once."""
        most = self.bounds.per_address
        if most is not None and self._per_address[site_of(host_of(addr))] >= most:
            return self._turn_away(most)
        channel = ExpressChannel(self.limits)
        channel.site = channel.factory = self
        channel.timeOut = None
        return channel

    def _turn_away(self, most: int) -> TurnedAway | None:
        """Return what tells a client of too many connections; None where too many are told."""
        self.callers.refused["connections"] += 1
        if self.turned_away >= MOST_TURNED_AWAY:
            return None
        problem = problem_for(TooManyConnections(most, "--max-connections-per-address"))
        return TurnedAway(self, raw_answer(problem, self.http_date()), problem.status)

    def welcome(self, channel: Channel) -> bool:
        """Note a connection.

        The kernel hands over connections in bursts, so some come after the
        limit is reached: they are parked, and nothing is read of them until
        there is room. Meanwhile no more are accepted.

        Returns:
            Whether there is room for it now.
        """
        self._per_address[site_of(channel.address)] += 1
        if len(self.channels) < self.bounds.connections:
            self.channels.add(channel)
            return True
        self._parked.append(channel)
        self._make_room()
        if not self._full:
            self._full = True
            for port in self._ports:
                port.stopReading()
        return False

    def _make_room(self) -> None:
        """Give up a connection that does nothing useful, if there is one.

        So a thousand connections that send nothing, or a byte now and then, keep
        nobody out for longer than it takes to notice it (``PATIENCE``).
        """
        now = self.ticks()
        if not self._least_worth and now - self._looked_at >= LOOK_AGAIN:
            self._looked_at = now
            found = [(worth, each) for each in self.channels if (worth := each.worth_keeping(now))]
            found.sort(key=lambda pair: pair[0], reverse=True)
            self._least_worth = [each for _, each in found]
        while self._least_worth:
            channel = self._least_worth.pop()
            if channel in self.channels and channel.worth_keeping(now):
                if channel.has_unread():
                    continue
                self.callers.refused["room"] += 1
                channel.give_up_place()
                return

    def set_bounds(self, bounds: Bounds) -> None:
        """Put other bounds in force, and let in who waits if there is room now."""
        self.bounds = bounds
        self._let_in()

    def forget(self, channel: Channel) -> None:
        """Note that a connection is gone, and let in who waits."""
        if channel in self.channels:
            self.channels.discard(channel)
        elif channel in self._parked:
            self._parked.remove(channel)
        else:
            return
        key = site_of(channel.address)
        self._per_address[key] -= 1
        if not self._per_address[key]:
            del self._per_address[key]
        self._let_in()
        if not self.channels and self._empty is not None:
            empty, self._empty = self._empty, None
            self._stop_calling()
            empty.callback(None)

    def _let_in(self) -> None:
        while self._parked and len(self.channels) < self.bounds.connections:
            waiting = self._parked.popleft()
            self.channels.add(waiting)
            waiting.unpark()
        # Whoever comes next may find no room; but it has to come for room to be made.
        if self._full and not self._parked:
            self._full = False
            for port in self._ports:
                if port.connected:
                    port.startReading()

    def startFactory(self) -> None:  # noqa: N802 -- Twisted's name
        """Begin the sweep over the bounds."""
        if not self._sweep.running:
            self._sweep.start(1, now=False)

    def stopFactory(self) -> None:  # noqa: N802 -- Twisted's name
        """Do nothing: connections outlive their ports while a node drains; see :meth:`abort`."""

    def _check_all(self) -> None:
        now = self.ticks()
        for _ in range(len(self._parked)):
            self._make_room()
        for channel in list(self.channels):
            try:
                channel.check(now)
            except Exception:  # noqa: BLE001 -- one connection must not end the others' deadlines
                _log.failure("looking at the deadlines of {address}", address=channel.address)
                channel.abort()
        self._least_worth.clear()
        if self.fast_lane is not None:
            self.fast_lane.blobs.drop_changed()

    def http_date(self) -> bytes:
        """Return the Date field, made anew once a second."""
        now = int(self.clock.seconds())
        if self._date[0] != now:
            self._date = (now, http.datetimeToString(now))
        return self._date[1]

    # -- the end ------------------------------------------------------------

    def drain(self) -> Deferred[None]:
        """Finish what is under way, tell clients to come back by another connection.

        A client may send a request before it hears that its connection is to
        end. So one that is idle is closed only when no request has come for a
        while; one that comes is answered, with ``Connection: close`` (RFC 9112
        section 9.6).

        Returns:
            A Deferred that fires when the last connection is gone.
        """
        # Where another process serves, the node as a whole is not about to leave.
        self.leaving = not self.succeeded
        self.draining = True
        self._draining_since = self.ticks()
        if self.channels:
            self._last_calls.start(LOOK_FOR_IDLE)
        # Fired by forget, when the last connection goes.
        self._empty = Deferred()
        empty = self._empty
        if not self.channels:
            self._empty = None
            empty.callback(None)
        return empty

    def _close_idle(self) -> None:
        bounds = self.bounds
        patience = bounds.idle if self.succeeded else bounds.last_call
        for channel in list(self.channels):
            channel.close_if_idle(self._draining_since, patience)

    def _stop_calling(self) -> None:
        if self._last_calls.running:
            self._last_calls.stop()

    def abort(self) -> None:
        """Cut every connection and end the sweep."""
        self._stop_calling()
        if self._sweep.running:
            self._sweep.stop()
        for channel in [*self.channels, *self._parked]:
            channel.abort()

    # -- the access log -----------------------------------------------------

    def log(self, request: Any) -> None:
        """Write a request's line to the access log, once."""
        if not request.logged:
            request.logged = True
            if request.over is not None:
                request.over()
            tally = self.tally
            route = route_of(request.path)
            tally.requests[request.method.decode("ascii"), route, request.code] += 1
            tally.sent += request.sentLength
            tally.received += request.body.received
            took = self.ticks() - request.started
            tally.note(route, took)
            entry = entry_of(request, self.clock.seconds(), took)
            self._access_log(entry)
            if self.audit is not None and is_deed(request.method, request.code):
                self.audit(deed_of(request, entry))

    def log_hit(  # noqa: PLR0917 -- the hot path: names cost time
        self,
        channel: Channel,
        hit: Hit,
        sent: int,
        now: float,
        seconds: float = 0.0,
        first: int = -1,
    ) -> None:
        """Write the line of a request that the fast lane answered."""
        tally = self.tally
        tally.requests[hit.counts_as] += 1
        tally.hits += 1
        tally.sent += sent
        if seconds:
            tally.slow_hits += 1
            tally.note(BLOB, seconds)
        said = hit.tail.referrer, hit.tail.agent, "-", hit.about, first
        self._access_log(Entry(now, channel.address, hit.line, hit.status, sent, seconds, *said))

    def log_refused(self, channel: Channel | TurnedAway, status: int) -> None:
        """Write a line for what never became a request, or was cut off (status 499)."""
        self.tally.requests["-", OTHER, status] += 1
        self._access_log(
            Entry(
                at=self.clock.seconds(),
                address=channel.address,
                line="-",
                status=status,
                sent=0,
                seconds=0.0,
            )
        )


def _location(request: Request) -> bytes:
    return (request.responseHeaders.getRawHeaders(b"Location") or [b""])[0]


def deed_of(request: Request, entry: Entry) -> Deed:
    """Return what the audit log says of a request that ended."""
    return Deed(
        at=entry.at,
        address=entry.address,
        principal="peer" if request.proven is True else entry.principal,
        method=request.method.decode("ascii"),
        path=without_signature(request.uri.decode("latin-1")),
        status=request.code,
        digest=entry.about.digest,
        reason=request.refusal,
    )


def _digest_in(path: bytes) -> str:
    found = path[1:129]
    is_digest = len(found) == 128 and not found.strip(b"0123456789abcdefABCDEF")
    return found.decode("ascii").lower() if is_digest else ""


def entry_of(request: Request, now: float, took: float) -> Entry:
    """Return what the access log says of a request that ended now, and took so many seconds."""
    return Entry(
        at=now,
        address=client_of(caller_of(request), request.site.trusted_proxies) or "unix",
        line=f"{request.method.decode('ascii')} "
        f"{without_signature(request.uri.decode('latin-1'))} "
        f"{request.clientproto.decode('ascii')}",
        status=request.code,
        sent=request.sentLength,
        seconds=took,
        referrer=without_signature((request.field("referer") or ["-"])[-1]),
        agent=(request.field("user-agent") or ["-"])[-1],
        principal=request.principal,
        about=About(
            request.method.decode("ascii"),
            route_of(request.path),
            request.cache,
            _digest_in(request.path) or _digest_in(_location(request)),
            request.body.received,
            (request.field("range") or [""])[-1][:LONGEST_RANGE],
            request.id,
            request.trace,
        ),
    )
