"""Proof: half a million inputs on the port, random and made by a grammar.

Random bytes; requests put together from parts that are right, wrong and rare; and
those with bytes changed, cut, doubled and swapped. No traceback, no input that
is not over within 15 s, no memory and no descriptor left behind.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

from prove.figures import Row
from prove.house import House
from prove.slow import descriptors, store
from prove.volley import Shot, Volley, resident
from prove.zygote import Zygote

INPUTS = 500_000

#: MiB that the node's memory may grow by.
GROWTH = 20.0

#: Inputs before the memory is measured: what is remembered of requests has its size then.
_WARM = 0.3

_METHODS = (b"GET", b"GET", b"GET", b"HEAD", b"PUT", b"PUT", b"POST", b"DELETE", b"OPTIONS",
            b"TRACE", b"CONNECT", b"PATCH", b"get", b"G\xc3\x89T", b"")  # fmt: skip
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9",
             b"HTTP/1.10", b"http/1.1", b"HTTP/1.", b"")  # fmt: skip
_SPACES = (b" ", b" ", b" ", b" ", b" ", b"  ", b"\t", b"")
_ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n ")
_NAMES = (
    b"Range", b"If-Range", b"If-Match", b"If-None-Match", b"If-Modified-Since",
    b"If-Unmodified-Since", b"Content-Length", b"Transfer-Encoding", b"Content-Type",
    b"Content-Encoding", b"Content-Range", b"Expect", b"Connection", b"Authorization", b"Cookie",
    b"Signature-Input", b"Signature", b"Content-Digest", b"Repr-Digest", b"Digest", b"Want-Digest",
    b"X-Forwarded-For", b"X-Forwarded-Proto", b"Forwarded", b"Via", b"Origin", b"Sec-Fetch-Site",
    b"Host", b"TE", b"Trailer", b"Upgrade", b"DTFC-Node", b"DTFC-Partial", b"DTFC-Replica",
    b"Accept-Encoding", b"User-Agent", b"Referer", b"X-\xff", b"", b":",
)  # fmt: skip
_VALUES = (
    b"bytes=0-", b"bytes=-5", b"bytes=5-2", b"bytes=0-0,2-3,9-", b"bytes=,", b"lines=1-2",
    b'"a"', b'W/"a"', b"*", b'"', b"Sun, 06 Nov 1994 08:49:37 GMT", b"yesterday", b"0", b"5",
    b"-1", b"+5", b"0x5", b"5, 5", b"99999999999999999999", b"chunked", b"gzip, chunked",
    b"chunked, chunked", b"identity", b"multipart/form-data; boundary=b", b"multipart/form-data",
    b"100-continue", b"200-ok", b"close", b"keep-alive, x", b"Basic YTpi", b"Basic !",
    b"Bearer dtfc_x", b"Bearer a.b.c", b"Bearer", b"AuthSession=YTpi", b'AuthSession="',
    b'dtfc=("@method" "@path");created=1;keyid="a";nonce="b"', b"dtfc=()", b"dtfc=:YWJj:",
    b"sha-512=:YWJj:", b"sha-512=YWJj", b"sha-256=:!:", b"127.0.0.1", b"::1, unknown", b"http",
    b"for=127.0.0.1", b"1.1 a", b"null", b"http://a", b"cross-site", b"a", b"a:b", b"a b", b"[::1]",
    b"trailers", b"h2c", b"http://127.0.0.1:1/", b"wait", b"?1", b"\xff\xfe", b"a\x00b", b"",
)  # fmt: skip


def _target(chance: Random, digest: bytes) -> bytes:
    path = chance.choice((
        b"/", b"/" + digest, b"/" + digest.upper(), b"/" + digest + b"/info", b"/" + digest[:-1],
        b"/" + digest + b"/chunks", b"/" + digest + b"/nopeerload", b"/" + digest + b"/allpeers",
        b"/" + digest + b"/name", b"/name", b"/files.json", b"/metrics", b"/readyz", b"/deletions",
        b"/deletions/compare", b"/deletions/x", b"/refreshpeers.html", b"*", b"//", b"/../..",
        b"/%2e%2e/%2f", b"/%", b"/%zz", b"/%00", b"/a%ffb", b"http://a/" + digest, b"http:///",
        b"a:80", b"/\xff", b"/" + b"a" * chance.choice((255, 256, 300)), b"",
    ))  # fmt: skip
    if chance.random() < 0.3:
        path += b"?" + chance.choice((
            b"verbose", b"name=a%0d%0ab", b"limit=0", b"limit=99999999999999999", b"after=x",
            b"prefix=%ff", b"inline=1", b"expires=1&sig=x", b"sig=", b"db=a&doc=b", b"?" * 99, b"%",
        ))  # fmt: skip
    return path


def _body(chance: Random) -> bytes:
    return chance.choice((
        b"", b"a", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"5\nhello\n0\n\n", b"-5\r\nhello", b"FFFFFFFFFFFFFFFFF\r\n", b"0\r\n",
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nhi\r\n--b--\r\n',
        b"--b\r\nContent-Disposition: form-data\r\n\r\n--b", b"--b--", b'{"records": []}', b"{",
        b'{"version": 1, "records": [{"digest": "x"}]}', chance.randbytes(chance.randrange(300)),
    ))  # fmt: skip


def request(chance: Random, digest: bytes) -> bytes:
    """Return a request put together from parts, most of them right."""
    space, end, version = b" ", b"\r\n", b"HTTP/1.1"
    colons: tuple[bytes, ...] = (b": ",)
    if chance.random() < 0.4:
        space, end = chance.choice(_SPACES), chance.choice(_ENDS)
        version, colons = chance.choice(_VERSIONS), (b": ", b": ", b":", b" : ", b"")
    method = chance.choice(_METHODS) if chance.random() < 0.5 else b"GET"
    line = space.join((method, _target(chance, digest), version))
    fields = [] if chance.random() < 0.05 else [b"Host: localhost"]
    body = _body(chance)
    if body and chance.random() < 0.7:
        fields.append(
            chance.choice((b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"))
        )
    fields += [
        chance.choice(_NAMES) + chance.choice(colons) + chance.choice(_VALUES)
        for _ in range(chance.choice((0, 0, 1, 1, 2, 3, 8)))
    ]
    chance.shuffle(fields)
    return end.join([line, *fields, b"", b""]) + body


def mutated(chance: Random, data: bytes) -> bytes:
    """Return an input with something changed, cut, doubled or swapped."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if not changed:
            break
        at, what = chance.randrange(len(changed)), chance.randrange(5)
        if what == 0:
            changed[at] = chance.randrange(256)
        elif what == 1:
            del changed[at : at + chance.randrange(1, 20)]
        elif what == 2:
            changed[at:at] = changed[at : at + chance.randrange(1, 60)]
        elif what == 3:
            changed[at:at] = chance.choice((b"\r", b"\n", b"\0", b"\r\n\r\n", b"\xff", b" ", b":"))
        else:
            changed = changed[:at]
    return bytes(changed)


def inputs(chance: Random, digest: bytes) -> Iterator[Shot]:
    """Yield inputs, without end."""
    while True:
        kind = chance.random()
        if kind < 0.1:
            data = chance.randbytes(chance.randrange(1, 400))
        elif kind < 0.5:
            data = request(chance, digest)
        elif kind < 0.9:
            data = mutated(chance, request(chance, digest))
        else:
            data = b"".join(request(chance, digest) for _ in range(chance.randrange(2, 5)))
        pieces = chance.choice((0, 0, 0, 0, 0, 0, 0, 1, 7)) if len(data) < 300 else 0
        yield Shot("input", data, pieces=pieces)


def fire(seed: int, count: int) -> Row:
    """Send so many inputs to a node."""
    chance = Random(f"{seed} fuzz")
    name = "random and grammar-made inputs: a traceback, a hang, memory or a descriptor left"
    began = time.monotonic()
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        house = House(zygote, f"{folder}/house")
        house.start(*("--allow-anonymous", "put,delete", "--requests-per-address", "1000000/s"))
        # What many of the inputs store again, when others have deleted it.
        digest = store(house.port, "photo.jpg", b"hello").encode()
        every = inputs(chance, digest)
        warm = max(3000, int(count * _WARM))
        Volley(house.port).fire(shot for shot, _ in zip(every, range(warm), strict=False))
        time.sleep(1.5)
        before, open_before = resident(house.pid), descriptors(house.pid)

        def told(shot: Shot) -> None:
            statuses[shot.status // 100] += 1

        volley = Volley(house.port, told)
        volley.fire(shot for shot, _ in zip(every, range(count), strict=False))
        time.sleep(1.5)
        wrong = volley.hung
        grown, open_after = resident(house.pid) - before, descriptors(house.pid)
        if grown > GROWTH:
            wrong.append(f"memory grew by {grown:.1f} MiB")
        if open_after > open_before + 12:  # hot blobs
            wrong.append(f"{open_after} descriptors, {open_before} before")
        with open(f"{house.folder}/output", encoding="utf-8", errors="replace") as log:
            wrong += [line.strip() for line in log if "Traceback" in line or "Unhandled" in line][
                :5
            ]
        house.end()
    told_of = ", ".join(f"{statuses[each]} of {each}xx" for each in (2, 3, 4, 5))
    took = time.monotonic() - began
    cases = (
        f"{volley.count} inputs, {volley.count / took:.0f} a second; {told_of}, {statuses[0]} "
        f"without an answer; memory {grown:+.1f} MiB; descriptors {open_before} and {open_after}"
    )
    return Row(name, cases, len(wrong), took, seed, wrong[:20])


def prove(seed: int, share: float) -> list[Row]:
    """Send the share of all inputs."""
    return [fire(seed, max(2000, int(INPUTS * share)))]
