"""The fast lane and the tree: two roads, one answer."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.errors import Corrupt
from dtfc.http.heads import Limits
from dtfc.integrity.reading import Checks, Reading
from dtfc.integrity.residency import best
from dtfc.store.blobs import open_store
from dtfc.store.watched import SETTLED
from dtfc.web.fastlane import Tails, _one_range
from dtfc.web.hotblobs import HotBlob, HotBlobs
from dtfc.web.source import BlobSource
from tests.support.roads import CONTENT, DIGEST, ELSEWHERE, EMPTY, LARGE, PERCENT, TwoRoads

reactor: Any = _reactor


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[TwoRoads]:
    roads = TwoRoads(tmp_path)
    yield roads
    pytest_twisted.blockon(Deferred.fromCoroutine(roads.stop()))


FIELDS = [
    b"User-Agent: curl/8",
    b"user-agent: x\xffy",
    b"Accept: */*",
    b"Accept-Encoding: gzip",
    b"Connection: keep-alive",
    b"Connection: Keep-Alive, TE",
    b'Referer: http://x/"',
    b"Range: bytes=0-0",
    b"Range: bytes=5-99",
    b"Range: bytes=100000-199999",
    b"Range: bytes=199999-",
    b"Range: bytes=200000-",
    b"Range: bytes=0-999999999999999999999",
    b"Range: bytes=9-3",
    b"Range: bytes=-5",
    b"Range: bytes=0-9,100000-100009",
    b"Range: bytes= 0-9",
    b"Range: bytes=+0-9",
    b"range: bytes=1-2",
    b"Range: lines=1-2",
    b"If-None-Match: *",
    b'If-Range: "x"',
    b"If-Match: *",
    b"If-Modified-Since: Mon, 01 Jan 2035 00:00:00 GMT",
    b"Cookie: AuthSession=x",
    b"Cache-Control: no-cache",
    b"Content-Length: 0",
    b"X-Forwarded-For: 1.2.3.4",
    b"Want-Digest: SHA-512;q=1",
    b"DTFC-Node: http://a:1",
    b'Signature-Input: dtfc=("@method");tag="dtfc-peer"\r\nSignature: dtfc=:AA==:',
    b"Signature-Input: x\r\nSignature: y\r\nSignature-Input: z\r\nSignature: z",
    b"Signature: dtfc=:AA==:",
    b"Signature-Input: \r\nSignature: \xff",
    b"signature-input: a",
]
PATHS = [b"", b"/nopeerload", b"?", b"?name=x.png", b"?name=x.png&inline=1", b"/info"]


def some_head(source: random.Random) -> bytes:
    method = source.choices([b"GET", b"HEAD"], [9, 1])[0]
    digest = source.choices([DIGEST, EMPTY, PERCENT, LARGE], [6, 1, 1, 1])[0].hex.encode()
    if source.random() < 0.05:
        digest = digest.upper()
    path = source.choices(PATHS, [12, 2, 1, 1, 1, 1])[0]
    fields = [b"Host: localhost:80", *source.sample(FIELDS, source.randint(0, 4))]
    if source.random() < 0.1:
        source.shuffle(fields)
    return b"\r\n".join([b"%b /%b%b HTTP/1.1" % (method, digest, path), *fields, b"", b""])


@pytest_twisted.ensureDeferred
async def test_both_roads_give_the_same_answer(roads: TwoRoads) -> None:
    seed = int(os.environ.get("DTFC_SEED", time.time_ns() % 2**32))
    print(f"seed {seed}")
    source = random.Random(seed)
    heads = [some_head(source) for _ in range(1500)]

    def compare() -> list[tuple[bytes, bytes, bytes]]:
        for digest in (DIGEST, EMPTY, PERCENT, LARGE):
            roads.warm(digest)
        different = []
        with roads.connect(0) as fast, roads.connect(1) as tree:
            for head in heads:
                answers = fast.ask(head), tree.ask(head)
                if answers[0] != answers[1]:
                    different.append((head, *answers))
        return different

    assert await deferToThread(compare) == []
    assert len(roads.hits) > 200


def links_in(answer: bytes) -> list[bytes]:
    head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line.partition(b"; ")[2] for line in head if line.startswith(b"Link: ")]


@pytest.mark.parametrize(
    ("path", "links"),
    [
        (
            b"",
            [
                b"rel=duplicate; pri=1; geo=de",
                b'rel=describedby; type="application/metalink4+xml"',
            ],
        ),
        (b"/nopeerload", []),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_fast_lane_names_who_else_has_it(
    roads: TwoRoads, path: bytes, links: list[bytes]
) -> None:
    head = b"GET /%b%b HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n"

    def ask() -> bytes:
        roads.warm(LARGE)
        with roads.connect(0) as connection:
            return connection.ask(head % (LARGE.hex.encode(), path))

    answer = await deferToThread(ask)

    assert (len(roads.hits), links_in(answer)) == (1, links)


@pytest_twisted.ensureDeferred
async def test_what_is_known_of_others_since_is_said_soon(roads: TwoRoads) -> None:
    await deferToThread(roads.warm, LARGE)
    roads.hot.drop_changed()
    before = roads.hot.has(LARGE.hex.encode())
    roads.picker.lacks(ELSEWHERE, LARGE, reactor.seconds())

    roads.hot.drop_changed()

    assert (before, roads.hot.has(LARGE.hex.encode())) == (True, False)


@pytest_twisted.ensureDeferred
async def test_what_a_peer_signs_takes_the_fast_lane_too(roads: TwoRoads) -> None:
    def ask() -> None:
        roads.warm()
        with roads.connect(0) as connection:
            for number in range(5):
                connection.ask(
                    b"GET /%b/nopeerload HTTP/1.1\r\nHost: a\r\nRange: bytes=%d-\r\n"
                    b'Signature-Input: dtfc=("@path");created=%d\r\nSignature: dtfc=:%d:\r\n\r\n'
                    % (DIGEST.hex.encode(), number, number, number)
                )

    await deferToThread(ask)

    # Each is looked up twice: as it came, and without its signature.
    assert [start for _, start, _ in roads.hits[-10:]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len({id(hit) for hit, _, _ in roads.hits[-10:]}) == 1


@pytest_twisted.ensureDeferred
async def test_both_roads_write_the_same_log(roads: TwoRoads) -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: a\r\nUser-Agent: u\r\nReferer: r\r\n\r\n" % (
        DIGEST.hex.encode()
    )

    def ask() -> None:
        roads.warm()
        roads.log.clear()
        for road in (0, 1):
            with roads.connect(road) as connection:
                connection.ask(head)

    await deferToThread(ask)
    pause: Deferred[None] = Deferred()
    reactor.callLater(0.05, pause.callback, None)
    await pause

    facts = [(e.address, e.line, e.status, e.sent, e.referrer, e.agent) for e in roads.log]
    assert len(facts) == 2
    assert facts[0] == facts[1]
    assert len(roads.hits) == 1


CHANGES: dict[str, Callable[[TwoRoads], object]] = {
    "a 404 marker": lambda roads: Path(roads.store.layout.marker(DIGEST, 404)).touch(),
    "a 403 marker": lambda roads: Path(roads.store.layout.marker(DIGEST, 403)).touch(),
    "a deletion": lambda roads: roads.store.delete(DIGEST),
    "a deny file": lambda roads: Path(roads.gate.policy.deny_prefix + "get").touch(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest_twisted.ensureDeferred
async def test_what_forbids_a_blob_is_seen_at_once(roads: TwoRoads, change: str) -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % DIGEST.hex.encode()

    def ask() -> tuple[bytes, bytes]:
        roads.warm()
        with roads.connect(0) as connection:
            before = connection.ask(head)[:12]
            CHANGES[change](roads)
            return before, connection.ask(head)[:12]

    before, after = await deferToThread(ask)
    assert (before, len(roads.hits)) == (b"HTTP/1.1 200", 1)
    assert after in (b"HTTP/1.1 403", b"HTTP/1.1 404")


@pytest_twisted.ensureDeferred
async def test_pipelined_hot_gets_are_all_answered(roads: TwoRoads) -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % DIGEST.hex.encode()

    def ask() -> list[bytes]:
        roads.warm()
        with roads.connect(0) as connection:
            first = connection.ask(head * 3)
            return [first, connection.ask(b""), connection.ask(b"")]

    answers = await deferToThread(ask)
    assert [answer.endswith(CONTENT) for answer in answers] == [True] * 3


@pytest.mark.parametrize(
    "after", [b"Range: bytes=0-3\r\n", b"\r\nRange: bytes=0-3\r\n\r\n", b"x", b"\r\n"]
)
@pytest_twisted.ensureDeferred
async def test_what_follows_a_head_does_not_belong_to_it(roads: TwoRoads, after: bytes) -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % DIGEST.hex.encode()

    def ask() -> bytes:
        roads.warm()
        with roads.connect(0) as connection:
            return connection.ask(head + after)

    answer = await deferToThread(ask)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(CONTENT)


@pytest_twisted.ensureDeferred
async def test_a_deleted_blob_is_let_go_soon(roads: TwoRoads) -> None:
    await deferToThread(roads.warm)
    roads.store.delete(DIGEST)

    roads.hot.drop_changed()

    assert not roads.hot.has(DIGEST.hex.encode())


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_lets_the_blob_go(roads: TwoRoads) -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % DIGEST.hex.encode()

    def leave() -> None:
        roads.warm()
        for _ in range(30):
            with roads.connect(0) as connection:
                connection._socket.sendall(head)

    before = len(os.listdir("/proc/self/fd"))
    await deferToThread(leave)
    pause: Deferred[None] = Deferred()
    reactor.callLater(0.2, pause.callback, None)
    await pause
    roads.hot.clear()
    # A disk thread closes it.
    closing: Deferred[None] = Deferred()
    reactor.callLater(0.2, closing.callback, None)
    await closing

    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.parametrize(
    ("text", "span"),
    [
        (b"0-0", (0, 1)),
        (b"3-", (3, 7)),
        (b"3-99", (3, 7)),
        (b"10-", (0, 0)),
        (b"5-4", (0, 0)),
        (b"-3", (0, 0)),
        (b"0-1,3-4", (0, 0)),
        (b"0--", (0, 0)),
        (b"a-b", (0, 0)),
        (b"", (0, 0)),
        (b"0", (0, 0)),
        (b"\xb2-3", (0, 0)),
    ],
)
def test_one_range(text: bytes, span: tuple[int, int]) -> None:
    assert _one_range(text, 10) == span


@pytest.mark.parametrize(
    "tail",
    [
        b"Host: a\r\nCookie: x\r\n\r\n",
        b"Host: a\r\n\r\nGET",
        b"\r\n",
        b"Host: a\r\nHost: b\r\n\r\n",
        b"Host: a\r\nConnection: close\r\n\r\n",
        b" folded\r\nHost: a\r\n\r\n",
        b"Host: a\r\nRange: bytes=0-1\r\n\r\n",
        b"Host: a\r\nContent-Length: 3\r\n\r\n",
        b"Host: a\r\n" + b"Accept: x\r\n" * 100 + b"\r\n",
    ],
)
def test_tails_that_are_not_plain(tail: bytes) -> None:
    assert Tails(Limits()).look_up(tail) is None


def test_what_is_remembered_of_tails_is_bounded() -> None:
    tails = Tails(Limits())
    for number in range(5000):
        tails.look_up(b"Host: a\r\nUser-Agent: %d\r\n\r\n" % number)

    assert len(tails._known) <= 1024


def test_the_oldest_blob_makes_room(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2)
    digests = []
    for content in (b"a", b"b", b"c"):
        intake = store.intake(None)
        intake.write([content])
        digests.append(intake.commit(None).info.digest)
    time.sleep(SETTLED / 1e9 + 0.02)
    hot = HotBlobs(2)
    checks = Checks(store.repair, best())

    async def nobody(reading: Reading, _chunk: int | None) -> None:
        raise Corrupt(reading.digest.hex)

    for digest in digests:
        watched = store.watch(digest)
        assert watched is not None
        reading = Reading(checks, digest, watched.fd, watched.info.length)
        hot.keep(HotBlob(watched, BlobSource(reading, nobody, reactor), 1, lambda close: close()))

    assert [hot.has(digest.hex.encode()) for digest in digests] == [False, True, True]
    hot.clear()
    store.close()
