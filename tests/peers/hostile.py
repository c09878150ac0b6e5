"""Peers for tests: honest ones, broken ones and liars, on real loopback sockets.

A behaviour is a function that gets an :class:`Exchange` (one request) and does
whatever it likes with the connection, byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

reactor: Any = _reactor


class Exchange(Protocol):
    """One connection; carries one request after the other."""

    transport: Any
    factory: Any

    def __init__(self) -> None:
        self.buffer = b""
        self.method = ""
        self.path = ""
        self.fields: dict[str, str] = {}

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        self.factory.connections.add(self)
        self.factory.connects += 1

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            first, *lines = head.decode("latin-1").split("\r\n")
            self.method, self.path, _ = first.split(" ")
            self.fields = {}
            for line in lines:
                name, value = line.split(":", 1)
                key = name.lower()
                self.fields[key] = ", ".join(filter(None, [self.fields.get(key), value.strip()]))
            if self.path.endswith("/chunks"):
                self.factory.maps_asked += 1
                chunk_map = self.factory.chunk_map
                length = f"Content-Length: {len(chunk_map or b'')}"
                self.head(404 if chunk_map is None else 200, length)
                self.transport.write(chunk_map or b"")
                continue
            self.factory.requests.append(f"{self.method} {self.path}")
            self.factory.ranges.append(self.fields.get("range"))
            self.factory.seen.append(self.fields)
            self.factory.behaviour(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        del reason
        self.factory.connections.discard(self)
        if not self.factory.connections and self.factory.emptied is not None:
            self.factory.emptied.callback(None)

    @property
    def start(self) -> int:
        """The first byte asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.fields.get("range", ""))
        return int(match[1]) if match else 0

    def stop(self, length: int) -> int:
        """The byte behind the last one asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.fields.get("range", ""))
        return min(length, int(match[2]) + 1) if match else length

    def head(self, status: int, *lines: str) -> None:
        text = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} Whatever", *lines, ""))
        self.transport.write(text.encode("latin-1"))

    def send(self, data: bytes) -> None:
        self.factory.body_bytes += len(data)
        self.transport.write(data)

    def close(self) -> None:
        self.transport.loseConnection()

    def reset(self) -> None:
        self.transport.abortConnection()

    def later(self, seconds: float, work: Callable[..., None], *args: object) -> None:
        def if_still_there() -> None:
            if self in self.factory.connections:
                work(*args)

        self.factory.timers.append(reactor.callLater(seconds, if_still_there))


Behaviour = Callable[[Exchange], None]


@dataclass(eq=False)
class HostilePeer(Factory):
    """A server that behaves as it is told."""

    behaviour: Behaviour
    chunk_map: bytes | None = None
    maps_asked: int = 0
    requests: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    connections: set[Exchange] = field(default_factory=set)
    connects: int = 0
    body_bytes: int = 0
    timers: list[Any] = field(default_factory=list)
    emptied: Deferred[None] | None = None
    url: str = ""

    noisy = False

    def buildProtocol(self, addr: object) -> Exchange:  # noqa: N802 - Twisted's name
        del addr
        exchange = Exchange()
        exchange.factory = self
        return exchange

    def listen(self, tls: Any = None) -> None:
        if tls is None:
            self.port = reactor.listenTCP(0, self, interface="127.0.0.1")
        else:
            self.port = reactor.listenSSL(0, self, tls, interface="127.0.0.1")
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port.getHost().port}"

    async def close(self) -> None:
        for timer in self.timers:
            if timer.active():
                timer.cancel()
        await maybeDeferred(self.port.stopListening)
        if self.connections:
            self.emptied = Deferred()
            for each in list(self.connections):
                each.reset()
            await self.emptied


def answer(exchange: Exchange, data: bytes, *extra: str) -> bytes:
    """Send the honest head for the range asked for; return the body that belongs to it."""
    if exchange.start == 0 and "range" not in exchange.fields:
        exchange.head(200, f"Content-Length: {len(data)}", *extra)
    elif exchange.start >= len(data):
        exchange.head(416, f"Content-Range: bytes */{len(data)}", "Content-Length: 0")
        return b""
    else:
        stop = exchange.stop(len(data))
        exchange.head(
            206,
            f"Content-Length: {stop - exchange.start}",
            f"Content-Range: bytes {exchange.start}-{stop - 1}/{len(data)}",
            *extra,
        )
    stop = exchange.stop(len(data))
    return b"" if exchange.method == "HEAD" else data[exchange.start : stop]


def honest(data: bytes, *extra: str) -> Behaviour:
    """What a dtfc node or one of 2015 does."""
    return lambda exchange: exchange.send(answer(exchange, data, *extra))


def status(code: int, *lines: str, body: bytes = b"") -> Behaviour:
    """The same status to everything."""

    def behave(exchange: Exchange) -> None:
        exchange.head(code, f"Content-Length: {len(body)}", *lines)
        exchange.send(b"" if exchange.method == "HEAD" else body)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first behaviour for the first request, and so on; the last one for all others."""
    left = list(behaviours)

    def behave(exchange: Exchange) -> None:
        now = left.pop(0) if len(left) > 1 else left[0]
        now(exchange)

    return behave


def cut_after(data: bytes, count: int) -> Behaviour:
    """Honest, but dies after so many bytes of each body."""

    def behave(exchange: Exchange) -> None:
        exchange.send(answer(exchange, data)[:count])
        exchange.close()

    return behave


def stalls_after(data: bytes, count: int) -> Behaviour:
    """Honest, but goes silent after so many bytes of each body, and stays connected."""
    return lambda exchange: exchange.send(answer(exchange, data)[:count])


def silent(exchange: Exchange) -> None:
    """Takes the request and never says a word."""


def resets(exchange: Exchange) -> None:
    """Resets the connection instead of answering."""
    exchange.reset()


def closes(exchange: Exchange) -> None:
    """Closes the connection instead of answering."""
    exchange.close()


def speaks_no_http(exchange: Exchange) -> None:
    """Answers in some other protocol."""
    exchange.send(b"220 mail.example ESMTP\r\n\r\nwhat?\r\n")


def half_a_head(exchange: Exchange) -> None:
    """Stops in the middle of a field."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Len")


def endless_head(exchange: Exchange) -> None:
    """Fields without end."""
    exchange.send(b"HTTP/1.1 200 OK\r\n")

    def more(number: int) -> None:
        exchange.send(b"".join(b"X-%d-%d: %s\r\n" % (number, i, b"x" * 900) for i in range(20)))
        exchange.later(0.005, more, number + 1)

    more(0)


def endless_interim(exchange: Exchange) -> None:
    """1xx responses without end."""

    def more() -> None:
        exchange.send(b"HTTP/1.1 102 Processing\r\nX: %s\r\n\r\n" % (b"x" * 4000) * 5)
        exchange.later(0.005, more)

    more()


def wrong_bytes(data: bytes) -> Behaviour:
    """The right length, one bit wrong in each body."""
    return honest(data[:-1] + bytes([data[-1] ^ 1]))


def wrong_content_range(data: bytes) -> Behaviour:
    """Answers a range with bytes from elsewhere, and says so."""

    def behave(exchange: Exchange) -> None:
        exchange.head(
            206,
            f"Content-Length: {len(data) - 1}",
            f"Content-Range: bytes 1-{len(data) - 1}/{len(data)}",
        )
        exchange.send(data[1:])

    return behave


def whole_for_range(data: bytes) -> Behaviour:
    """Knows no ranges."""

    def behave(exchange: Exchange) -> None:
        exchange.head(200, f"Content-Length: {len(data)}")
        exchange.send(data)

    return behave


def multipart_for_range(data: bytes) -> Behaviour:
    """Answers one range as if several had been asked for."""

    def behave(exchange: Exchange) -> None:
        exchange.head(
            206,
            f"Content-Length: {len(data)}",
            "Content-Type: multipart/byteranges; boundary=x",
        )
        exchange.send(data)

    return behave


def encoded(data: bytes, coding: str = "gzip") -> Behaviour:
    """Sends a content coding that nobody asked for."""
    return honest(data, f"Content-Encoding: {coding}")


def shorter(data: bytes) -> Behaviour:
    """Honest about a blob that is one byte shorter."""
    return honest(data[:-1])


def longer(data: bytes) -> Behaviour:
    """Honest about a blob that is longer."""
    return honest(data + b"more")


def announces_more(data: bytes) -> Behaviour:
    """Announces more than it has, sends what it has, and dies."""

    def behave(exchange: Exchange) -> None:
        body = answer(exchange, data + b"x" * 1000)
        exchange.send(body[:-1000])
        exchange.close()

    return behave


def announces_an_exabyte(exchange: Exchange) -> None:
    """A length that fits nowhere, and zeros."""
    exchange.head(200, f"Content-Length: {1 << 60}")
    exchange.send(bytes(100_000))


def endless_chunks(exchange: Exchange) -> None:
    """A body of unknown length without end."""
    exchange.head(200, "Transfer-Encoding: chunked")

    def more() -> None:
        exchange.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        exchange.later(0.005, more)

    more()


def endless_piece(data: bytes) -> Behaviour:
    """The right Content-Range, chunked, with much more behind the right bytes."""

    def behave(exchange: Exchange) -> None:
        rest = data[exchange.start :]
        exchange.head(
            206,
            "Transfer-Encoding: chunked",
            f"Content-Range: bytes {exchange.start}-{len(data) - 1}/{len(data)}",
        )
        exchange.send(b"%x\r\n" % len(rest) + rest + b"\r\n")

        def more() -> None:
            exchange.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
            exchange.later(0.005, more)

        more()

    return behave


def drips(data: bytes) -> Behaviour:
    """Honest, but a byte at a time, often enough never to be silent."""

    def behave(exchange: Exchange) -> None:
        body = answer(exchange, data)

        def more(at: int) -> None:
            exchange.send(body[at : at + 1])
            exchange.later(0.02, more, at + 1)

        more(0)

    return behave
