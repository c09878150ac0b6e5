"""Proof: small requests that ask for much, and large ones that ask for nothing.

Ranges by the thousand; URLs, header sections, chunks and trailers that never
seem to end. Each is answered in the status that it should have, no range bomb
gets more than the file, and the node's memory stays as it was.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

from prove.figures import Row
from prove.house import House
from prove.slow import descriptors, store
from prove.volley import Shot, Volley, resident
from prove.zygote import Zygote

RANGES = 1000
OTHERS = 10_000

#: MiB that the node's memory may grow by.
GROWTH = 5.0

#: Bombs thrown before the memory is measured: the allocator keeps what many at once took.
_WARM = 3000

_SIZE = 3 * 1024 * 1024 + 17
_HEAD = 4096  # bytes of an answer's own head, at the most


def ranges(digest: str, chance: Random) -> Iterator[Shot]:
    """Yield range bombs, without end."""
    kinds: list[Callable[[int], str]] = [
        lambda _n: f"{chance.randrange(_SIZE)}-{_SIZE}",
        lambda n: f"{n * 2}-{n * 2}",
        lambda _n: f"-{chance.randrange(1, 2 * _SIZE)}",
        lambda _n: "0-",
        lambda n: f"{_SIZE - n}-{10**18}",
        lambda _n: f"{chance.randrange(10**6)}-{chance.randrange(10**6)}",
    ]
    while True:
        kind, count = chance.choice(kinds), chance.choice((1, 2, 15, 16, 17, 100, 1300, 5000))
        spans = [kind(number) for number in range(count)]
        fields = [f"Range: bytes={','.join(spans)}"]
        if chance.random() < 0.1:
            fields.append(fields[0])
        head = f"GET /{digest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        yield Shot(f"{count} ranges", (head + "\r\n".join(fields) + "\r\n\r\n").encode())


#: What each kind of bomb may be answered with; 0: closed without an answer.
_FITTING = {
    "a long URL": {414},
    "a long query": {414},
    "many fields": {431},
    "a long field": {431},
    "a long name of a field": {431},
    "fields without an end": {0, 431},
    "a long method": {400, 414, 501},
    "chunks of one byte": {400},  # more lines of sizes than bytes
    "an extension of a chunk": {400},
    "extensions of many chunks": {400, 413},
    "a chunk of endless size": {400, 413},
    "a long trailer": {431},
    "many trailers": {431},
    "an announced body of 8 EiB": {413, 507, 400},
    "a coded body": {415},
    "empty lines before": {400},
    "a form of endless parts": {400, 413},
    "a long part's header": {400},
    "many arguments": {400},
}


def others(chance: Random) -> Iterator[Shot]:
    """Yield other bombs, without end."""
    put = (
        b"PUT /bomb HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    get = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    form = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; "
    )
    end = b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    bound = b"boundary=b\r\nContent-Length: %d\r\n\r\n"
    coded = gzip.compress(bytes(1_000_000))

    def grown(size: int) -> int:
        return size + chance.randrange(size)

    def shapes() -> dict[str, bytes]:
        many = grown(3000)
        part = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * many
        long_part = b"--b\r\nX: " + b"x" * grown(20_000) + b"\r\n\r\n\r\n--b--\r\n"
        return {
            "a long URL": b"GET /" + b"a" * grown(20_000) + end,
            "a long query": b"GET /?" + b"a=b&" * grown(5000) + end,
            "many fields": get + b"A: b\r\n" * grown(500) + b"\r\n",
            "a long field": get + b"A: " + b"b" * grown(40_000) + b"\r\n\r\n",
            "a long name of a field": get + b"A" * grown(40_000) + b": b\r\n\r\n",
            "fields without an end": get + b"A: b\r\n" * grown(300),
            "a long method": b"A" * grown(20_000) + b" /" + end,
            "chunks of one byte": put + b"1\r\na\r\n" * grown(5000) + b"0\r\n\r\n",
            "an extension of a chunk": put + b"1;" + b"a" * grown(20_000) + b"\r\na\r\n0\r\n\r\n",
            "extensions of many chunks": put + (b"1;" + b"a" * 1100 + b"\r\na\r\n") * many,
            "a chunk of endless size": put + b"F" * grown(17) + b"\r\n",
            "a long trailer": put + b"0\r\nA: " + b"b" * grown(20_000) + b"\r\n\r\n",
            "many trailers": put + b"0\r\n" + b"A: b\r\n" * grown(200) + b"\r\n",
            "an announced body of 8 EiB": b"PUT /b HTTP/1.1\r\nHost: localhost\r\n"
            b"Connection: close\r\nContent-Length: 9223372036854775806\r\n\r\n",
            "a coded body": b"PUT /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded) + coded,
            "empty lines before": b"\r\n" * grown(3000),
            "a form of endless parts": form + bound % len(part) + part,
            "a long part's header": form + bound % len(long_part) + long_part,
            "many arguments": b"GET /files.json?" + b"a&" * 1000
            + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        }  # fmt: skip

    while True:
        for title, data in shapes().items():
            yield Shot(title, data, pieces=chance.choice((0, 0, 1000)) if len(data) > 3000 else 0)


def throw(seed: int, share: float) -> list[Row]:
    """Throw bombs at a node."""
    chance = Random(f"{seed} bombs")
    rows = []
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        house = House(zygote, f"{folder}/house")
        house.start()
        digest = store(house.port, "photo.jpg", chance.randbytes(_SIZE))
        house.again("--max-body", "1M")
        # What the node needs for its work at all is there before it is measured.
        _volley(house, ranges(digest, chance), 100, lambda _shot: None)
        warm = max(_WARM, int(OTHERS * share))
        _volley(house, others(chance), warm, lambda _shot: None)
        rows.append(_ranges(house, digest, chance, max(50, int(RANGES * share)), seed))
        rows.append(_others(house, chance, max(100, int(OTHERS * share)), seed))
        house.end()
    return rows


def _volley(
    house: House, shots: Iterator[Shot], count: int, told: Callable[[Shot], None]
) -> Volley:
    volley = Volley(house.port, told)
    volley.fire(shot for shot, _ in zip(shots, range(count), strict=False))
    return volley


def _ranges(house: House, digest: str, chance: Random, count: int, seed: int) -> Row:
    began, before = time.monotonic(), resident(house.pid)
    wrong: list[str] = []
    statuses: Counter[int] = Counter()
    most = 0

    def told(shot: Shot) -> None:
        nonlocal most
        statuses[shot.status] += 1
        most = max(most, shot.received)
        if shot.status not in (200, 206, 414, 416, 431):
            wrong.append(f"{shot.title}: {shot.status}")
        if shot.received > _SIZE + _HEAD:
            wrong.append(f"{shot.title}: {shot.received} bytes of a file of {_SIZE}")

    volley = _volley(house, ranges(digest, chance), count, told)
    wrong += volley.hung
    grown = resident(house.pid) - before
    if grown > GROWTH:
        wrong.append(f"memory grew by {grown:.1f} MiB")
    cases = (
        f"{volley.count} requests of a file of {_SIZE} bytes: the largest answer had {most}; "
        f"{_counted(statuses)}; memory {grown:+.1f} MiB"
    )
    took = time.monotonic() - began
    return Row("range bombs: more than the file, or memory", cases, len(wrong), took, seed, wrong)


def _others(house: House, chance: Random, count: int, seed: int) -> Row:
    began, before = time.monotonic(), resident(house.pid)
    open_before = descriptors(house.pid)
    wrong: list[str] = []
    statuses: Counter[int] = Counter()

    def told(shot: Shot) -> None:
        statuses[shot.status] += 1
        if shot.status not in _FITTING[shot.title]:
            wrong.append(f"{shot.title}: {shot.status} {shot.start[:80]!r}")

    volley = _volley(house, others(chance), count, told)
    wrong += volley.hung
    time.sleep(0.5)
    grown = resident(house.pid) - before
    if grown > GROWTH:
        wrong.append(f"memory grew by {grown:.1f} MiB")
    if descriptors(house.pid) > open_before + 8:
        wrong.append(f"{descriptors(house.pid)} descriptors, {open_before} before")
    with open(f"{house.folder}/output", encoding="utf-8", errors="replace") as log:
        wrong += [line.strip() for line in log if "Traceback" in line][:3]
    cases = f"{volley.count} of 19 kinds: {_counted(statuses)}; memory {grown:+.1f} MiB"
    name = "header, URL, chunk and form bombs: a wrong status, memory, or a descriptor left"
    return Row(name, cases, len(wrong), time.monotonic() - began, seed, wrong[:20])


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()))


def prove(seed: int, share: float) -> list[Row]:
    """Throw the share of all of them."""
    return throw(seed, share)
