"""One copy to one peer, with a real store and peers on sockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, Corrupt, Denied
from dtfc.http.digests import repr_digest
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import open_peer_http
from dtfc.peers.failure import PeerFailure
from dtfc.peers.sending import Refused
from dtfc.replicas.courier import UNASKED, Courier
from dtfc.replicas.pacing import CopyPacing
from dtfc.store.blobs import open_store
from tests.peers.hostile import Exchange, HostilePeer
from tests.support.alone import NoPieces, upkeep_alone

reactor: Any = _reactor
MIB = 1 << 20
SMALL = b"a small one"
LARGE = bytes(range(256)) * (3 * MIB // 256)


class Keeping:
    """A peer that keeps what it is given, and can be told to do otherwise."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.head_says: int | None = None
        self.put_says: int | None = None
        self.silent_about_digest = False
        self.forgets = False
        self.server = HostilePeer(self._asked)
        self.server.listen()
        self.url = self.server.url

    def _asked(self, exchange: Exchange) -> None:
        hexa = exchange.path.split("/")[1]
        if exchange.method == "HEAD":
            kept = self.kept.get(hexa)
            if self.head_says is not None:
                exchange.head(self.head_says, "Content-Length: 0")
            elif kept is None:
                exchange.head(404, "Content-Length: 0")
            else:
                exchange.head(200, f"Content-Length: {len(kept)}")
            return
        if self.put_says is not None:
            exchange.head(self.put_says, "Content-Length: 0")
            return
        if "expect" in exchange.fields:
            exchange.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        wanted = int(exchange.fields["content-length"])

        def look() -> None:
            if len(exchange.buffer) < wanted:
                exchange.later(0.01, look)
                return
            body, exchange.buffer = exchange.buffer[:wanted], exchange.buffer[wanted:]
            new = hexa not in self.kept
            if not self.forgets:
                self.kept[hexa] = body
            said = () if self.silent_about_digest else (f'ETag: "{hexa}"',)
            exchange.head(201 if new else 200, "Content-Length: 0", *said)

        look()

    @property
    def puts(self) -> list[str]:
        return [each for each in self.server.requests if each.startswith("PUT")]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.store = open_store(str(folder / "store"), fan_out=2, reserve=0)
        self.peer = Keeping()
        self.pieces = NoPieces()
        self.upkeep = upkeep_alone(self.store, InlineDisk(), self.pieces)
        self.http = open_peer_http(reactor, PeerLimits(connect=2, first_byte=1, stall=1))
        self.pacing = CopyPacing(reactor)
        self.courier = Courier(
            self.http,
            self.store,
            InlineDisk(),
            self.upkeep.checks,
            self.upkeep.healing.heal,
            reactor,
            pacing=self.pacing,
        )

    def put(self, content: bytes, name: str | None = "a b.bin") -> Digest:
        intake = self.store.intake(None)
        intake.write([content])
        return intake.commit(name).info.digest

    def damage(self, digest: Digest, change: Callable[[int], object]) -> None:
        """Change the file of a blob on the disk."""
        path = f"{self.store.layout.folder(digest)}/data"
        os.chmod(path, 0o644)
        fd = os.open(path, os.O_RDWR)
        try:
            change(fd)
        finally:
            os.close(fd)

    def deny(self, digest: Digest) -> None:
        """Put an operator's marker beside a blob."""
        Path(self.store.layout.folder(digest), "403").touch()

    async def deliver(self, digest: Digest) -> int | None:
        return (await self.courier.deliver(digest, self.peer.url)).sent

    async def close(self) -> None:
        await self.http.close()
        await self.peer.server.close()
        await self.upkeep.healing.stop()
        self.store.close()


@pytest_twisted.async_yield_fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


@pytest.mark.parametrize("content", [SMALL, b"", LARGE], ids=["small", "empty", "large"])
@pytest_twisted.ensureDeferred
async def test_a_peer_gets_a_copy(bench: Bench, content: bytes) -> None:
    digest = bench.put(content)
    assert await bench.deliver(digest) == len(content)
    assert bench.peer.kept == {digest.hex: content}
    (put,) = [each for each in bench.peer.server.seen if "dtfc-replica" in each]
    assert put["dtfc-replica"] == "?1"
    assert put["repr-digest"] == repr_digest(digest)
    assert bench.peer.puts == [f"PUT /{digest.hex}/a%20b.bin"]


@pytest_twisted.ensureDeferred
async def test_a_large_one_is_not_sent_to_who_has_it(bench: Bench) -> None:
    digest = bench.put(LARGE)
    bench.peer.kept[digest.hex] = LARGE
    assert await bench.deliver(digest) is None
    assert bench.peer.puts == []


@pytest_twisted.ensureDeferred
async def test_a_small_one_is_sent_without_asking(bench: Bench) -> None:
    digest = bench.put(bytes(UNASKED))
    bench.peer.kept[digest.hex] = bytes(UNASKED)
    assert await bench.deliver(digest) is None
    assert [each.split()[0] for each in bench.peer.server.requests] == ["PUT"]


@pytest_twisted.ensureDeferred
async def test_who_has_it_of_another_length_gets_it(bench: Bench) -> None:
    digest = bench.put(LARGE)
    bench.peer.kept[digest.hex] = LARGE[:5]
    await bench.deliver(digest)
    assert bench.peer.kept[digest.hex] == LARGE


@pytest.mark.parametrize(("name", "path"), [(None, ""), ("ä/b", ""), ("ü", "/%C3%BC")])
@pytest_twisted.ensureDeferred
async def test_a_name_goes_along_if_a_peer_can_take_it(
    bench: Bench, name: str | None, path: str
) -> None:
    digest = bench.put(SMALL, name)
    await bench.deliver(digest)
    assert bench.peer.puts == [f"PUT /{digest.hex}{path}"]


@pytest.mark.parametrize("status", [403, 410, 413, 507, 302])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_a_refusal_is_one(bench: Bench, content: bytes, status: int) -> None:
    bench.peer.put_says = status
    with pytest.raises(Refused) as caught:
        await bench.deliver(bench.put(content))
    assert caught.value.status == status


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_what_may_pass_is_a_failure(bench: Bench, content: bytes, status: int) -> None:
    bench.peer.put_says = status
    with pytest.raises(PeerFailure, match=f"answered {status}"):
        await bench.deliver(bench.put(content))


@pytest.mark.parametrize(("status", "kind"), [(401, Refused), (503, PeerFailure)])
@pytest_twisted.ensureDeferred
async def test_what_is_said_to_the_question_counts(
    bench: Bench, status: int, kind: type[Exception]
) -> None:
    bench.peer.head_says = status
    with pytest.raises(kind):
        await bench.deliver(bench.put(LARGE))
    assert bench.peer.puts == []


@pytest_twisted.ensureDeferred
async def test_who_says_nothing_of_the_digest_is_asked_for_it(bench: Bench) -> None:
    bench.peer.silent_about_digest = True
    digest = bench.put(SMALL)
    assert await bench.deliver(digest) == len(SMALL)
    assert bench.peer.server.requests[-1] == f"HEAD /{digest.hex}/nopeerload"


@pytest_twisted.ensureDeferred
async def test_who_says_stored_and_has_nothing_does_not_count(bench: Bench) -> None:
    bench.peer.silent_about_digest = bench.peer.forgets = True
    with pytest.raises(PeerFailure, match="does not have it"):
        await bench.deliver(bench.put(SMALL))


@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_closed_meanwhile_costs_a_second_try(bench: Bench) -> None:
    await bench.deliver(bench.put(SMALL))
    kept = bench.peer._asked
    tries = []

    def closes_first(exchange: Exchange) -> None:
        tries.append(exchange)
        if len(tries) == 1:
            exchange.reset()
        else:
            kept(exchange)

    bench.peer.server.behaviour = closes_first
    other = bench.put(b"another")
    assert await bench.deliver(other) == 7
    assert bench.peer.kept[other.hex] == b"another"


@pytest_twisted.ensureDeferred
async def test_what_is_not_here_is_said(bench: Bench) -> None:
    digest = bench.put(SMALL)
    bench.store.delete(digest)
    with pytest.raises(Absent) as caught:
        await bench.deliver(digest)
    assert caught.value.deleted
    denied = bench.put(LARGE)
    bench.deny(denied)
    with pytest.raises(Denied):
        await bench.deliver(denied)


def flip(at: int) -> Callable[[int], object]:
    def change(fd: int) -> None:
        byte = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte[0] ^ 1]), at)

    return change


class TestRot:
    @pytest.mark.parametrize(
        ("content", "change"),
        [
            (SMALL, flip(3)),
            (SMALL, lambda fd: os.ftruncate(fd, 4)),
            (SMALL, lambda fd: os.ftruncate(fd, 0)),
            (LARGE, flip(5)),
            (LARGE, flip(len(LARGE) - 1)),
            (LARGE, lambda fd: os.ftruncate(fd, MIB + 7)),
        ],
        ids=["flipped", "cut", "emptied", "first", "last", "large cut"],
    )
    @pytest_twisted.ensureDeferred
    async def test_no_wrong_byte_is_taken(
        self, bench: Bench, content: bytes, change: Callable[[int], object]
    ) -> None:
        digest = bench.put(content)
        bench.damage(digest, change)
        with pytest.raises(Corrupt):
            await bench.deliver(digest)
        assert bench.peer.kept == {}
        received = b"".join(each.buffer for each in bench.peer.server.connections)
        assert content.startswith(received)

    @pytest_twisted.ensureDeferred
    async def test_rot_after_it_was_verified_is_seen_too(self, bench: Bench) -> None:
        digest = bench.put(LARGE)
        await bench.deliver(digest)
        bench.peer.kept.clear()
        with bench.store.open(digest) as blob:
            times = os.fstat(blob.fd)
        bench.damage(digest, flip(MIB + 5))
        path = f"{bench.store.layout.folder(digest)}/data"
        os.chmod(path, 0o444)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(Corrupt):
            await bench.deliver(digest)
        assert bench.peer.kept == {}

    @pytest_twisted.ensureDeferred
    async def test_what_another_peer_has_right_is_sent_right(self, bench: Bench) -> None:
        digest = bench.put(LARGE)

        async def fetch(
            _digest: Digest, _length: int, start: int, count: int, _is_right: object
        ) -> bytes:
            return LARGE[start : start + count]

        bench.pieces.fetch = fetch  # type: ignore[method-assign,assignment]
        bench.damage(digest, flip(2 * MIB))
        assert await bench.deliver(digest) == len(LARGE)
        assert bench.peer.kept[digest.hex] == LARGE


@pytest_twisted.ensureDeferred
async def test_a_rate_is_kept(bench: Bench) -> None:
    bench.pacing.set_rates(4 * MIB, None)
    digest = bench.put(LARGE)
    before = reactor.seconds()
    await bench.deliver(digest)
    # The first block goes at once; two more of 1 MiB wait a quarter of a second each.
    assert 0.45 < reactor.seconds() - before < 3


@pytest_twisted.ensureDeferred
async def test_a_probe_hears_any_answer(bench: Bench) -> None:
    await bench.courier.probe(bench.peer.url)
    bench.peer.head_says = 403
    await bench.courier.probe(bench.peer.url)
    bench.peer.head_says = 503
    with pytest.raises(PeerFailure):
        await bench.courier.probe(bench.peer.url)
