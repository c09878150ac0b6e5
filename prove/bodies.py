"""Blobs by the thousand, of which every byte is known without being kept.

All are stretches of one seeded pool, so that what arrives is compared with it
directly, as quickly as memory allows.
"""

from __future__ import annotations

import http.client
import json
import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from dtfc.digest import Digest

MIB = 1 << 20
LARGEST = 64 * MIB

_T = TypeVar("_T")
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Body:
    """A blob.

    Args:
        digest: its digest.
        pool: the bytes that all are stretches of.
        start: where it begins in there.
        size: in bytes.
        name: that it is stored under.
    """

    digest: Digest
    pool: bytes
    start: int
    size: int
    name: str

    def part(self, first: int, count: int) -> bytes:
        """Return some of its bytes."""
        first = self.start + first
        return self.pool[first : min(first + count, self.start + self.size)]

    @property
    def whole(self) -> bytes:
        """All of its bytes."""
        return self.part(0, self.size)


def make_pool(chance: Random, size: int) -> bytes:
    """Return seeded bytes."""
    return b"".join(chance.randbytes(MIB) for _ in range(-(-size // MIB)))


def log_uniform(chance: Random, largest: int = LARGEST) -> int:
    """Return a size from 1 on, every power of two as likely as the next."""
    return max(1, min(largest, round(math.exp(chance.uniform(0, math.log(largest))))))


def make_bodies(
    chance: Random, count: int, *, largest: int = LARGEST, size: int | None = None
) -> list[Body]:
    """Make up so many different blobs.

    Args:
        chance: what is random about them.
        count: how many.
        largest: bytes that one may have.
        size: of every one of them; None for sizes that are log-uniform.
    """
    pool = make_pool(chance, (size or largest) + 16 * MIB)
    seen: set[Digest] = set()
    bodies: list[Body] = []
    while len(bodies) < count:
        length = size or log_uniform(chance, largest)
        start = chance.randrange(len(pool) - length)
        digest = Digest.of(pool[start : start + length])
        if digest not in seen:
            seen.add(digest)
            bodies.append(Body(digest, pool, start, length, f"blob-{len(bodies)}"))
    return bodies


def put_all(bodies: Iterable[Body], port: int) -> None:
    """Store blobs in a daemon, some at a time.

    Raises:
        AssertionError: one was not stored.
    """
    each_of(bodies, lambda body: _put(body, port))


def each_of(items: Iterable[_T], work: Callable[[_T], object], threads: int = 4) -> None:
    """Do the same with each, several at a time."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass


def _put(body: Body, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("PUT", f"/{body.digest}/{body.name}", body.whole)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 201):
            raise AssertionError(f"PUT: {answer.status} {said[:300]!r}")
    finally:
        connection.close()


def ask_json(port: int, path: str) -> object:
    """GET what is JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def ask_text(port: int, path: str) -> str:
    """GET what is text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
