"""Where the system lacks what Linux has: the same bytes and heads, another way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.threads import deferToThread

from dtfc.integrity import residency
from dtfc.web import express, hotblobs, transmit
from tests.support.roads import CONTENT, DIGEST, TwoRoads

Lacks = Callable[[pytest.MonkeyPatch], object]

_linux_sendfile = getattr(os, "sendfile", None)


def like_freebsd() -> Callable[..., int]:
    """Return a sendfile as CPython has it on FreeBSD: seven arguments, short counts, EBUSY."""
    calls = count()

    def sendfile(  # noqa: PLR0917 -- the signature of the other system
        out_fd: int,
        in_fd: int,
        offset: int,
        count: int,
        headers: Any = (),
        trailers: Any = (),
        flags: int = 0,
    ) -> int:
        assert not headers
        assert not trailers
        assert flags == 0
        assert count > 0  # 0 would mean the rest of the file there
        if next(calls) % 3 == 1:
            raise OSError(errno.EBUSY, "busy")
        assert _linux_sendfile is not None
        return int(_linux_sendfile(out_fd, in_fd, offset, min(count, 30_011)))

    return sendfile


def cannot_ask(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transmit, "resident", residency.never)
    patch.setattr(express, "resident", residency.never)
    patch.setattr(hotblobs, "_CAN_TELL", False)


def has_nothing(patch: pytest.MonkeyPatch) -> None:
    cannot_ask(patch)
    patch.setattr(transmit, "_CORK", None)
    patch.setattr(transmit, "SENDFILE", None)


def is_freebsd(patch: pytest.MonkeyPatch) -> None:
    cannot_ask(patch)
    patch.setattr(transmit, "SENDFILE", like_freebsd())


SYSTEMS: dict[str, Lacks] = {
    "no sendfile": lambda patch: patch.setattr(transmit, "SENDFILE", None),
    "the sendfile of FreeBSD": lambda patch: patch.setattr(transmit, "SENDFILE", like_freebsd()),
    "no cork": lambda patch: patch.setattr(transmit, "_CORK", None),
    "cannot ask the page cache": cannot_ask,
    "all that FreeBSD lacks": is_freebsd,
    "nothing at all": has_nothing,
}


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[TwoRoads]:
    roads = TwoRoads(tmp_path)
    yield roads
    pytest_twisted.blockon(Deferred.fromCoroutine(roads.stop()))


def asking(*fields: bytes) -> bytes:
    line = b"GET /%b HTTP/1.1" % DIGEST.hex.encode()
    return b"\r\n".join([line, b"Host: a", *fields, b"", b""])


HEADS = [
    asking(),
    asking(b"Range: bytes=5-99"),
    asking(b"Range: bytes=7-65542"),
    asking(b"Range: bytes=1000-"),
    asking(b"Range: bytes=0-9,100000-150000"),
]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest_twisted.ensureDeferred
async def test_another_system_sends_the_same(
    roads: TwoRoads, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    def ask(road: int) -> list[bytes]:
        with roads.connect(road) as connection:
            return [connection.ask(head) for head in HEADS * 2]

    await deferToThread(roads.warm)
    here = await deferToThread(ask, 1)
    SYSTEMS[system](monkeypatch)

    assert await deferToThread(ask, 0) == here
    assert await deferToThread(ask, 1) == here


@pytest.mark.parametrize("system", SYSTEMS)
@pytest_twisted.ensureDeferred
async def test_pipelined_and_slow(
    roads: TwoRoads, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    SYSTEMS[system](monkeypatch)

    def ask() -> list[bytes]:
        roads.warm()
        with roads.connect(0) as connection:
            answers = [connection.ask(asking() * 3)]
            return [*answers, connection.ask(b""), connection.ask(b"")]

    answers = await deferToThread(ask)

    assert [answer.endswith(CONTENT) for answer in answers] == [True] * 3


@pytest_twisted.ensureDeferred
async def test_the_fast_lane_goes_on_with_the_sendfile_of_freebsd(
    roads: TwoRoads, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_freebsd(monkeypatch)

    def ask() -> bytes:
        roads.warm()
        with roads.connect(0) as connection:
            return connection.ask(asking())

    assert (await deferToThread(ask)).endswith(CONTENT)
    assert len(roads.hits) == 1


@pytest_twisted.ensureDeferred
async def test_a_file_that_was_dropped_again_is_still_sent(
    roads: TwoRoads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops each page at once: after some tries it is sent all the same."""
    monkeypatch.setattr(transmit, "resident", lambda *_stretch: False)
    monkeypatch.setattr(transmit, "FRESH", -1.0)

    def ask() -> bytes:
        roads.warm()
        with roads.connect(0) as connection:
            return connection.ask(asking(b"Range: bytes=3-190000"))

    assert (await deferToThread(ask)).endswith(CONTENT[3:190_001])


def test_nobody_waits_for_a_turn_on_a_connection_that_is_gone() -> None:
    pace = transmit.Pace()
    pace.pauseProducing()
    pace.stopProducing()
    turn = Deferred.fromCoroutine(pace.turn())
    turn.addErrback(lambda failure: failure.trap(ConnectionLost) and None)
    assert turn.result is None
