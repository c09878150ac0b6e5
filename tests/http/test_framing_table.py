"""Every payload of the table through the parsers alone, however the network cuts it."""

from __future__ import annotations

import random

import pytest

from dtfc.http.chunked import ChunkedDecoder
from dtfc.http.fields import BadMessage
from dtfc.http.heads import HeadReader, RequestHead
from tests.http.framing_table import TABLE, Payload

EACH = pytest.mark.parametrize("payload", TABLE, ids=lambda each: each.name)


class Line:
    """Reads requests off a connection as a server would; says 200 to each that is well framed."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.closed = False
        self._reader = HeadReader()
        self._head: RequestHead | None = None
        self._left = 0
        self._decoder: ChunkedDecoder | None = None

    def receive(self, data: bytes) -> None:
        try:
            while not self.closed and self._step(data):
                data = b""
        except BadMessage as failure:
            self.statuses.append(failure.status)
            self.closed = True

    def _step(self, data: bytes) -> bool:
        if self._head is None:
            self._reader.feed(data)
            self._head = self._reader.next()
            if self._head is None:
                return False
            self._left = self._head.content_length or 0
            self._decoder = ChunkedDecoder() if self._head.chunked else None
            data = self._reader.take_rest()
        if self._decoder:
            self._decoder.feed(data)
            if not self._decoder.done:
                return False
            data = self._decoder.rest
        else:
            taken = min(self._left, len(data))
            self._left -= taken
            data = data[taken:]
            if self._left:
                return False
        self._reader.feed(data)
        self.statuses.append(200)
        self.closed = self._head.close
        self._head = None
        return True


def replay(raw: bytes, sizes: list[int] | None = None) -> Line:
    line = Line()
    if sizes is None:
        line.receive(raw)
        return line
    at = 0
    for size in sizes:
        line.receive(raw[at : at + size])
        at += size
    line.receive(raw[at:])
    return line


def check(line: Line, payload: Payload) -> None:
    assert len(line.statuses) == len(payload.expected), line.statuses
    for status, expected in zip(line.statuses, payload.expected, strict=True):
        assert status in expected
    assert line.closed is payload.closes


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 150


def test_no_name_stands_twice() -> None:
    assert len({each.name for each in TABLE}) == len(TABLE)


@EACH
def test_whole(payload: Payload) -> None:
    check(replay(payload.raw), payload)


@EACH
def test_byte_by_byte(payload: Payload) -> None:
    check(replay(payload.raw, [1] * len(payload.raw)), payload)


@EACH
def test_cut_at_random(payload: Payload) -> None:
    chance = random.Random(payload.name)
    for _ in range(20):
        check(replay(payload.raw, [chance.randint(0, 40) for _ in range(400)]), payload)


@EACH
def test_with_garbage_after(payload: Payload) -> None:
    line = replay(payload.raw + b"\x00garbage")
    wanted = [*payload.expected, *([] if payload.closes else [frozenset({400})])]
    assert len(line.statuses) == len(wanted)
    assert all(status in each for status, each in zip(line.statuses, wanted, strict=True))
    assert line.closed


@EACH
def test_with_a_request_after(payload: Payload) -> None:
    line = replay(payload.raw + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert len(line.statuses) == len(payload.expected) + (not payload.closes)
