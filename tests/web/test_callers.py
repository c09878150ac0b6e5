"""What each caller may take, on both roads."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.tokens import parse_tokens
from dtfc.web.callers import CallerTerms
from tests.support.roads import CONTENT, DIGEST, TwoRoads

SECRET = "dtfc_" + "s" * 40
GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n%b\r\n"
FROM = b"X-Forwarded-For: %b\r\n"
TOKEN = b"Authorization: Bearer %b\r\n" % SECRET.encode()


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[TwoRoads]:
    found = TwoRoads(tmp_path)
    found.gate.tokens, bad = parse_tokens(
        f"one {hashlib.sha256(SECRET.encode()).hexdigest()} get,head,put"
    )
    assert not bad
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


def limit(roads: TwoRoads, **terms: Any) -> None:
    for site in roads.sites:
        site.callers.set_terms(CallerTerms(**terms))
        site.trusted_proxies = site.callers.trusted_proxies = (ipaddress.ip_network("127.0.0.0/8"),)
        site.callers.is_peer = roads.gate.is_signed
    # The gate counts principals for the road that the request came by.
    roads.gate.callers = roads.sites[1].callers


def statuses(roads: TwoRoads, road: int, fields: bytes, times: int) -> list[int]:
    found = []
    with roads.connect(road) as connection:
        for _ in range(times):
            answer = connection.ask(GET % (DIGEST.hex.encode(), fields))
            found.append(int(answer.split(b" ", 2)[1]))
    return found


@pytest.mark.parametrize("road", [0, 1], ids=["fast lane", "tree"])
@pytest_twisted.ensureDeferred
async def test_an_address_is_let_through_at_its_rate(roads: TwoRoads, road: int) -> None:
    await deferToThread(roads.warm)
    limit(roads, requests_per_address=0.01, burst=3)
    roads.hits.clear()

    found = await deferToThread(statuses, roads, road, b"", 5)

    assert found == [200, 200, 200, 429, 429]
    assert len(roads.hits) == (5 if road == 0 else 0)
    assert roads.sites[road].callers.refused["requests"] == 2


@pytest_twisted.ensureDeferred
async def test_other_addresses_are_not_held_to_it(roads: TwoRoads) -> None:
    limit(roads, requests_per_address=0.01, burst=1)

    one = await deferToThread(statuses, roads, 1, FROM % b"192.0.2.1", 2)
    other = await deferToThread(statuses, roads, 1, FROM % b"192.0.2.2", 2)

    assert (one, other) == ([200, 429], [200, 429])


@pytest_twisted.ensureDeferred
async def test_addresses_of_one_site_are_one(roads: TwoRoads) -> None:
    limit(roads, requests_per_address=0.01, burst=1)

    one = await deferToThread(statuses, roads, 1, FROM % b"2001:db8::1", 1)
    other = await deferToThread(statuses, roads, 1, FROM % b"2001:db8::2", 1)

    assert (one, other) == ([200], [429])


@pytest_twisted.ensureDeferred
async def test_a_token_is_held_to_its_own(roads: TwoRoads) -> None:
    limit(roads, requests_per_token=0.01, burst=1)

    one = await deferToThread(statuses, roads, 1, FROM % b"192.0.2.1" + TOKEN, 2)
    elsewhere = await deferToThread(statuses, roads, 1, FROM % b"192.0.2.2" + TOKEN, 1)
    without = await deferToThread(statuses, roads, 1, FROM % b"192.0.2.1", 2)

    assert (one, elsewhere, without) == ([200, 429], [429], [200, 200])


@pytest_twisted.ensureDeferred
async def test_a_refusal_says_when_to_come_back_and_what_limits(roads: TwoRoads) -> None:
    limit(roads, requests_per_address=0.5, burst=1)

    def twice() -> bytes:
        with roads.connect(0) as connection:
            connection.ask(GET % (DIGEST.hex.encode(), b""))
            return connection.ask(GET % (DIGEST.hex.encode(), b""))

    answer = await deferToThread(twice)

    assert b"\r\nRetry-After: 2\r\n" in answer
    assert b"--requests-per-address" in answer


@pytest_twisted.ensureDeferred
async def test_a_probe_is_never_refused(roads: TwoRoads) -> None:
    limit(roads, requests_per_address=0.01, burst=1)

    def probe() -> list[bytes]:
        with roads.connect(0) as connection:
            return [connection.ask(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")[9:12] for _ in "123"]

    assert await deferToThread(probe) == [b"200"] * 3


def paced(roads: TwoRoads, road: int, head: bytes, connections: int = 1) -> list[tuple[float, int]]:
    """Ask on so many connections at once; return when how many bytes had come in all."""
    began = time.monotonic()
    seen: list[tuple[float, int]] = []
    lock = threading.Lock()
    total = 0

    def one() -> None:
        nonlocal total
        port = roads.ports[road].getHost().port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head)
            while data := connection.recv(65536):
                with lock:
                    total += len(data)
                    seen.append((time.monotonic() - began, total))

    threads = [threading.Thread(target=one) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


CLOSING = GET % (DIGEST.hex.encode(), b"Connection: close\r\n")


@pytest.mark.parametrize("road", [0, 1], ids=["fast lane", "tree"])
@pytest_twisted.ensureDeferred
async def test_bodies_leave_evenly(roads: TwoRoads, road: int) -> None:
    await deferToThread(roads.warm)
    rate = 200_000
    limit(roads, rate_per_address=rate)

    seen = await deferToThread(paced, roads, road, CLOSING)

    took = seen[-1][0]
    assert 0.8 <= took <= 1.6
    # In no quarter of a second more than its part, a burst of two slices, and the head.
    for at, total in seen:
        before = max((sum_ for then, sum_ in seen if then < at - 0.25), default=0)
        assert total - before <= rate * 0.25 + 4 * rate / 20 + 2000


@pytest_twisted.ensureDeferred
async def test_connections_of_one_address_share(roads: TwoRoads) -> None:
    await deferToThread(roads.warm)
    limit(roads, rate_per_address=400_000)

    seen = await deferToThread(paced, roads, 0, CLOSING, 2)

    assert 0.8 <= seen[-1][0] <= 1.6


@pytest_twisted.ensureDeferred
async def test_an_upload_comes_evenly(roads: TwoRoads) -> None:
    limit(roads, rate_per_address=200_000)
    body = b"u" * 300_000

    def upload() -> tuple[float, bytes]:
        began = time.monotonic()
        with roads.connect(1) as connection:
            head = b"PUT /u HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            answer = connection.ask(head + body)
        return time.monotonic() - began, answer

    took, answer = await deferToThread(upload)

    assert answer.startswith(b"HTTP/1.1 201")
    assert 0.9 <= took <= 2.4


@pytest_twisted.ensureDeferred
async def test_so_many_uploads_at_once(roads: TwoRoads) -> None:
    limit(roads, uploads=2)
    port = roads.ports[1].getHost().port
    head = b"PUT /u%d HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nsome"

    def attempt() -> tuple[bytes, bytes]:
        held = []
        for number in range(2):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            held[-1].sendall(head % number)
        time.sleep(0.3)
        with roads.connect(1) as third:
            refused = third.ask(head % 3)
        for each in held:
            each.close()
        time.sleep(0.3)
        with roads.connect(1) as fourth:
            small = b"PUT /s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"
            return refused, fourth.ask(small)

    refused, taken = await deferToThread(attempt)

    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"Retry-After: 5\r\n" in refused
    assert taken.startswith(b"HTTP/1.1 201 ")


@pytest_twisted.ensureDeferred
async def test_a_reader_that_leaves_while_it_waits_for_its_turn_leaves_nothing(
    roads: TwoRoads,
) -> None:
    limit(roads, rate_per_address=20_000)

    def leave() -> None:
        port = roads.ports[1].getHost().port
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(CLOSING)
            connection.recv(10)

    await deferToThread(leave)
    await deferToThread(time.sleep, 0.3)

    # The fixture that watches the reactor would find a timer.
    assert [entry.status for entry in roads.log] == [200]
    assert len(CONTENT) == 200_000
