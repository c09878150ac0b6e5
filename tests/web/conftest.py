"""A connection without a socket: a channel on a transport that remembers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from dtfc.disk import InlineDisk
from dtfc.http.heads import Limits
from dtfc.web.accesslog import Entry
from dtfc.web.channel import Channel
from dtfc.web.request import Request
from dtfc.web.site import Bounds, Site


class Transport(StringTransport):
    """Remembers what was written, whether it reads, and how it was closed."""

    bufferSize = 65536  # noqa: N815 -- Twisted's name

    def __init__(self) -> None:
        StringTransport.__init__(self)
        self.half_closed = False
        self.aborted = False
        self.bytes_out = 0
        self.unsent = False
        self.held = 0

    @property
    def bytes_taken(self) -> int:
        return self.bytes_out - self.held

    def loseWriteConnection(self) -> None:  # noqa: N802 -- Twisted's name
        self.half_closed = True

    def abortConnection(self) -> None:  # noqa: N802 -- Twisted's name
        self.aborted = True
        StringTransport.abortConnection(self)

    @property
    def reading(self) -> bool:
        return self.producerState == "producing"


class Answering(Resource):
    """Hands each request to a function."""

    isLeaf = True  # noqa: N815 -- Twisted's name

    def __init__(self, respond: Callable[[Any], object]) -> None:
        Resource.__init__(self)
        self._respond = respond

    def render(self, request: Any) -> Any:
        self._respond(request)
        return NOT_DONE_YET


class Wire:
    """A channel, its transport, its clock, and the requests that were routed."""

    def __init__(self, respond: Callable[[Any], object] | None = None, **bounds: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.requests: list[Request] = []
        self.log: list[Entry] = []
        self._respond = respond
        self.site = Site(
            Answering(self._routed),
            self.clock,
            Limits(),
            Bounds(**bounds),
            access_log=self.log.append,
            disk=InlineDisk(),
        )
        self.site.startFactory()
        self.transport = Transport()
        channel = self.site.buildProtocol(None)
        assert channel is not None
        self.channel: Channel = channel
        self.channel.makeConnection(self.transport)

    def _routed(self, request: Request) -> None:
        self.requests.append(request)
        if self._respond is not None:
            self._respond(request)

    def send(self, data: bytes) -> None:
        """Deliver bytes, as far as the channel reads them."""
        self.channel.dataReceived(data)

    @property
    def got(self) -> bytes:
        """What was written to the client."""
        return self.transport.io.getvalue()

    @property
    def statuses(self) -> list[int]:
        """The statuses of all answers so far."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", self.got)]

    def lose(self) -> None:
        """The client closes."""
        self.channel.connectionLost(Failure(ConnectionDone()))

    def pass_time(self, seconds: int) -> None:
        """Let the clock run, second by second."""
        for _ in range(seconds):
            self.clock.advance(1)


@pytest.fixture
def new_wire() -> Callable[..., Wire]:
    """Make a connection to a site that answers with the given function."""
    return Wire
