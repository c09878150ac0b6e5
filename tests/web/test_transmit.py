"""File to socket, over real connections: the same bytes either way."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from dtfc.disk import DiskThreads, Lane
from dtfc.http.heads import Limits
from dtfc.http.problems import problem_for
from dtfc.http.ranges import Span
from dtfc.web import transmit
from dtfc.web.site import Bounds, Site
from dtfc.web.transmit import FileServer, Metered, Shrunk, send

reactor: Any = _reactor

SIZE = 5 * 1024 * 1024 + 12345


class FileSource:
    """A file of which nobody verifies anything.

    Args:
        fd: open for reading.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.stretch = 1024 * 1024

    def step(self, _offset: int, count: int) -> int:
        return count

    def ready(self, offset: int, count: int) -> int:
        return self.fd if transmit.resident(self.fd, offset, count) else -1

    async def prepare(self, lane: Lane, offset: int, count: int) -> int:
        await lane.run(os.pread, self.fd, count, offset)
        return self.fd


class ChunksOnly(FileSource):
    """Says of no more than one MiB that it is ready, and may fail."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.stretch = 8 * 1024 * 1024
        self.asked: list[int] = []
        self.fails_at = SIZE

    def ready(self, offset: int, count: int) -> int:
        self.asked.append(count)
        if offset >= self.fails_at:
            raise LookupError("what was sent before was wrong")
        return super().ready(offset, count) if count <= 1024 * 1024 else -1


class PlainServer(tcp.Server, Metered):
    """A connection that cannot send from a file, as with TLS."""


class Sending(Resource):
    """Answers every GET with the parts that a test chose."""

    isLeaf = True  # noqa: N815 -- Twisted's name

    def __init__(self, disk: DiskThreads, source: FileSource) -> None:
        Resource.__init__(self)
        self.source = source
        self.parts: list[bytes | Span] = [Span(0, SIZE)]
        self.failures: list[Exception] = []
        self._disk = disk

    def render_GET(self, request: Any) -> int:  # noqa: N802 -- Twisted's name
        length = sum(len(p) if isinstance(p, bytes) else p.length for p in self.parts)
        request.setHeader(b"Content-Length", b"%d" % length)

        async def answer() -> None:
            try:
                await send(request, Lane(self._disk), self.source, self.parts)
                request.finish()
            except Shrunk as error:
                self.failures.append(error)
                request.problem(problem_for(error))
            except Exception as error:  # noqa: BLE001 -- noted for the test
                self.failures.append(error)
                request.abort()

        Deferred.fromCoroutine(answer())
        return NOT_DONE_YET


class Rig:
    def __init__(self, folder: Path, server: type[tcp.Server]) -> None:
        self.content = random.Random(7).randbytes(SIZE)
        self.path = folder / "data"
        self.path.write_bytes(self.content)
        self.fd = os.open(self.path, os.O_RDONLY)
        self.disk = DiskThreads(reactor, 2)
        self.disk.start()
        self.source = ChunksOnly(self.fd)
        self.resource = Sending(self.disk, FileSource(self.fd))
        self.site = Site(
            self.resource,
            reactor,
            Limits(),
            Bounds(),
            access_log=lambda _entry: None,
            disk=self.disk,
        )
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port.transport = server

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port.getHost().port), timeout=20)

    async def client(self, talk: Callable[[socket.socket], Any]) -> Any:
        """Run a blocking client in a thread."""

        def run() -> Any:
            with self.connect() as connection:
                return talk(connection)

        return await deferToThread(run)

    async def stop(self) -> None:
        await self.port.stopListening()
        self.site.abort()
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.01, pause.callback, None)
        await pause
        self.disk.stop()
        os.close(self.fd)


@pytest.fixture(params=[FileServer, PlainServer])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, request.param)
    yield rig
    pytest_twisted.blockon(Deferred.fromCoroutine(rig.stop()))


def ask(connection: socket.socket, times: int = 1, *, close: bool = False) -> None:
    line = b"Connection: close\r\n" if close else b""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % line * times)


def read_answer(file: Any) -> bytes:
    length = 0
    while (line := file.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return bytes(file.read(length))


@pytest_twisted.ensureDeferred
async def test_a_whole_file(rig: Rig) -> None:
    def talk(connection: socket.socket) -> bytes:
        ask(connection)
        return read_answer(connection.makefile("rb"))

    assert await rig.client(talk) == rig.content


@pytest_twisted.ensureDeferred
async def test_keep_alive(rig: Rig) -> None:
    def talk(connection: socket.socket) -> list[bool]:
        file = connection.makefile("rb")
        same = []
        for _ in range(4):
            ask(connection)
            same.append(read_answer(file) == rig.content)
        return same

    assert await rig.client(talk) == [True] * 4


@pytest_twisted.ensureDeferred
async def test_five_pipelined(rig: Rig) -> None:
    def talk(connection: socket.socket) -> list[bool]:
        ask(connection, times=5)
        file = connection.makefile("rb")
        return [read_answer(file) == rig.content for _ in range(5)]

    assert await rig.client(talk) == [True] * 5


@pytest_twisted.ensureDeferred
async def test_literal_parts_between_spans(rig: Rig) -> None:
    rig.resource.parts = [b"--a", Span(5, 70_000), b"--b", Span(SIZE - 3, 3), b"--end"]

    def talk(connection: socket.socket) -> bytes:
        ask(connection)
        return read_answer(connection.makefile("rb"))

    content = rig.content
    expected = b"--a" + content[5:70_005] + b"--b" + content[-3:] + b"--end"
    assert await rig.client(talk) == expected


@pytest_twisted.ensureDeferred
async def test_the_connection_ends_after_the_file_when_asked_to(rig: Rig) -> None:
    def talk(connection: socket.socket) -> bytes:
        ask(connection, close=True)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    answer = await rig.client(talk)
    assert answer.partition(b"\r\n\r\n")[2] == rig.content


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_gets_every_byte(rig: Rig) -> None:
    rig.resource.parts = [Span(9, 150_000)]

    def talk(connection: socket.socket) -> bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        ask(connection, close=True)
        return b"".join(iter(lambda: connection.recv(3000), b""))

    answer = await rig.client(talk)
    assert answer.partition(b"\r\n\r\n")[2] == rig.content[9:150_009]


@pytest_twisted.ensureDeferred
async def test_clients_that_leave_in_the_middle(rig: Rig) -> None:
    def leave(connection: socket.socket) -> int:
        ask(connection)
        return len(connection.recv(100_000))

    for _ in range(20):
        assert await rig.client(leave) > 0

    def talk(connection: socket.socket) -> bytes:
        ask(connection)
        return read_answer(connection.makefile("rb"))

    assert await rig.client(talk) == rig.content


@pytest_twisted.ensureDeferred
async def test_a_file_that_shrank_is_cut_off(rig: Rig) -> None:
    os.truncate(rig.path, SIZE - 10)

    def talk(connection: socket.socket) -> int:
        ask(connection)
        answer = b""
        try:
            while data := connection.recv(1 << 16):
                answer += data
        except ConnectionResetError:
            pass
        return len(answer.partition(b"\r\n\r\n")[2])

    assert await rig.client(talk) < SIZE
    assert [type(each) for each in rig.resource.failures] == [Shrunk]


@pytest_twisted.ensureDeferred
async def test_what_is_not_ready_in_one_stretch_is_asked_for_chunk_by_chunk(tmp_path: Path) -> None:
    rig = Rig(tmp_path, FileServer)
    rig.resource.source = rig.source

    def talk(connection: socket.socket) -> bytes:
        ask(connection)
        return read_answer(connection.makefile("rb"))

    try:
        assert await rig.client(talk) == rig.content
    finally:
        await rig.stop()


@pytest_twisted.ensureDeferred
async def test_an_error_of_the_source_in_the_middle_reaches_who_sends(tmp_path: Path) -> None:
    rig = Rig(tmp_path, FileServer)
    rig.resource.source = rig.source
    rig.source.fails_at = 2 * 1024 * 1024

    def talk(connection: socket.socket) -> int:
        ask(connection)
        try:
            return len(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
        except ConnectionResetError:
            return -1

    try:
        received = await rig.client(talk)
        assert received < SIZE
        assert [type(each) for each in rig.resource.failures] == [LookupError]
    finally:
        await rig.stop()


@pytest_twisted.ensureDeferred
async def test_nobody_sends_more_than_a_mib_while_another_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, FileServer)
    turns: list[int] = []
    real = FileServer._send_some

    def counted(self: FileServer, sending: Any) -> Any:
        before = self.bytes_out
        result = real(self, sending)
        turns.append(self.bytes_out - before)
        return result

    monkeypatch.setattr(FileServer, "_send_some", counted)
    monkeypatch.setattr(FileServer, "senders", 1)  # the other one

    def talk(connection: socket.socket) -> bytes:
        ask(connection)
        return read_answer(connection.makefile("rb"))

    try:
        assert await rig.client(talk) == rig.content
    finally:
        await rig.stop()
    assert 0 < max(turns) <= 1024 * 1024


def test_after_a_wait_for_the_disk_no_earlier_answer_of_the_page_cache_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 4096)
    fd = os.open(path, os.O_RDONLY)
    asked: list[int] = []

    def resident(_fd: int, offset: int, _count: int) -> bool:
        asked.append(offset)
        return True

    monkeypatch.setattr(transmit, "resident", resident)
    sending = transmit._Sending(FileSource(fd), Span(0, 4096), lambda _count: None, None)
    assert sending.find_ready()
    asked.clear()
    sending.offset = 100
    assert sending.find_ready()
    assert asked == []
    monkeypatch.setattr(FileServer, "waited_at", sending._asked + 1)
    assert sending.find_ready()
    assert asked == [100]
    os.close(fd)
