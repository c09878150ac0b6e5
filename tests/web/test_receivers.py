"""To how many nodes a blob is sent at once: what is answered to one more, and to clients."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.digest import Digest
from dtfc.peers.receivers import Receivers
from dtfc.peers.rendezvous import ranked
from dtfc.store.chunkmap import CHUNK
from dtfc.web import transmit
from dtfc.web.receivers import Bound
from tests.support.roads import DIGEST as SMALL
from tests.support.roads import TwoRoads

reactor: Any = _reactor

LARGE = random.Random(5).randbytes(40 * CHUNK)
DIGEST = Digest.of(LARGE)
FIRST, SECOND, THIRD, LAST = ranked(DIGEST, [f"http://node{n}:1" for n in range(4)])


@pytest.fixture
def receivers() -> Receivers:
    return Receivers(2)


@pytest.fixture
def roads(tmp_path: Path, receivers: Receivers) -> Iterator[TwoRoads]:
    nodes = (FIRST, SECOND, THIRD, LAST)
    bound = Bound(receivers, nodes.__contains__, lambda _request: True, time.monotonic)
    roads = TwoRoads(tmp_path, bound)
    intake = roads.store.intake(None)
    intake.write([LARGE])
    intake.commit(None)
    yield roads
    pytest_twisted.blockon(Deferred.fromCoroutine(roads.stop()))


class Asker:
    """One request, whose answer is read when the test says so."""

    def __init__(self, roads: TwoRoads, node: str | None, *lines: str, method: str = "GET") -> None:
        self._socket = socket.create_connection(
            ("127.0.0.1", roads.ports[0].getHost().port), timeout=10
        )
        said = [] if node is None else [f"DTFC-Node: {node}"]
        head = [f"{method} /{DIGEST.hex}/nopeerload HTTP/1.1", "Host: a", *said, *lines]
        self._socket.sendall("\r\n".join([*head, "", ""]).encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.fields: dict[str, str] = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            self.fields[name.lower()] = value.strip()

    @property
    def gives_way(self) -> str | None:
        return self.fields.get("dtfc-gives-way")

    def rest(self) -> bytes:
        """Read the body, as much as comes."""
        return self._file.read(int(self.fields["content-length"]))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest_twisted.ensureDeferred
async def test_one_more_is_told_to_ask_elsewhere(roads: TwoRoads, receivers: Receivers) -> None:
    def asked() -> None:
        high, low = Asker(roads, FIRST), Asker(roads, SECOND)
        assert [each.status for each in (high, low)] == [200, 200]
        assert [each.gives_way for each in (high, low)] == ["?1", "?1"]
        more = Asker(roads, THIRD)
        assert (more.status, more.gives_way, more.fields["retry-after"]) == (503, "?1", "1")
        assert more.fields["content-type"] == "application/problem+json"
        assert high.rest() == low.rest() == LARGE
        for each in (high, low, more):
            each.close()

    await deferToThread(asked)
    assert (receivers.refused, receivers.cut) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_the_place_of_one_that_left_is_free(roads: TwoRoads) -> None:
    def asked() -> None:
        high, low = Asker(roads, FIRST), Asker(roads, SECOND)
        low.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            again = Asker(roads, LAST)
            if again.status == 200:
                break
            again.close()
            time.sleep(0.02)
        assert again.rest() == high.rest() == LARGE
        for each in (high, again):
            each.close()

    await deferToThread(asked)


@pytest.mark.parametrize("by_sendfile", [True, False])
@pytest_twisted.ensureDeferred
async def test_the_lowest_is_cut_off_and_keeps_what_was_sent(
    roads: TwoRoads, receivers: Receivers, monkeypatch: pytest.MonkeyPatch, *, by_sendfile: bool
) -> None:
    if not by_sendfile:
        monkeypatch.setattr(transmit, "SENDFILE", None)

    def asked() -> None:
        low, high = Asker(roads, LAST), Asker(roads, SECOND)
        highest = Asker(roads, FIRST)
        assert highest.status == 200
        # A close, not a reset: this would raise otherwise.
        came = low.rest()
        assert 0 < len(came) < len(LARGE)
        assert came == LARGE[: len(came)]
        assert high.rest() == highest.rest() == LARGE
        for each in (low, high, highest):
            each.close()

    await deferToThread(asked)
    assert (receivers.refused, receivers.cut) == (0, 1)


@pytest.mark.parametrize("node", [None, "http://stranger:1"])
@pytest_twisted.ensureDeferred
async def test_whoever_is_none_of_the_peers_is_sent_everything(
    roads: TwoRoads, node: str | None
) -> None:
    def asked() -> None:
        everybody = [Asker(roads, each) for each in (FIRST, SECOND, node, node, node)]
        assert [each.gives_way for each in everybody[2:]] == [None] * 3
        assert all(each.rest() == LARGE for each in everybody)
        for each in everybody:
            each.close()

    await deferToThread(asked)


@pytest_twisted.ensureDeferred
async def test_a_part_is_sent_to_everybody(roads: TwoRoads) -> None:
    def asked() -> None:
        wholes = [Asker(roads, FIRST), Asker(roads, SECOND)]
        part = Asker(roads, LAST, f"Range: bytes=10-{4 * CHUNK + 9}")
        assert (part.status, part.gives_way) == (206, None)
        assert part.rest() == LARGE[10 : 4 * CHUNK + 10]
        larger = Asker(roads, LAST, f"Range: bytes=10-{4 * CHUNK + 10}")
        assert larger.status == 503
        head = Asker(roads, LAST, method="HEAD")
        assert (head.status, head.gives_way) == (200, None)
        for each in (*wholes, part, larger, head):
            each.close()

    await deferToThread(asked)


@pytest_twisted.ensureDeferred
async def test_without_a_bound_all_are_sent_to(roads: TwoRoads, receivers: Receivers) -> None:
    receivers.most = 0

    def asked() -> None:
        everybody = [Asker(roads, each) for each in (FIRST, SECOND, THIRD, LAST)]
        assert all(each.rest() == LARGE for each in everybody)
        for each in everybody:
            each.close()

    await deferToThread(asked)


@pytest_twisted.ensureDeferred
async def test_on_the_fast_lane_only_what_is_small_or_asked_for_by_clients(
    roads: TwoRoads,
) -> None:
    def ask(digest: Digest, *fields: str) -> None:
        head = [f"GET /{digest.hex}/nopeerload HTTP/1.1", "Host: a", *fields, "", ""]
        with roads.connect(0) as connection:
            connection.ask("\r\n".join(head).encode())

    def hits(digest: Digest, *fields: str) -> int:
        before = len(roads.hits)
        for _ in range(3):
            ask(digest, *fields)
        return len(roads.hits) - before

    def asked() -> None:
        node = f"DTFC-Node: {FIRST}"
        part = "Range: bytes=5-99"
        for digest in (SMALL, DIGEST):
            roads.warm(digest)
        assert hits(SMALL, node) == hits(SMALL) == hits(DIGEST) == 3
        assert hits(DIGEST, node) == 0
        assert hits(DIGEST, node, part) == hits(DIGEST, part) == 3
        assert hits(DIGEST, node, "Range: bytes=5-") == 0
        assert hits(DIGEST, "Range: bytes=5-") == 3

    await deferToThread(asked)
