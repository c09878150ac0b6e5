"""What verifying and scrubbing cost: cold reads, and the slowest of many hot and cold GETs.

Figures of one machine; both sides of a comparison take turns.
"""

from __future__ import annotations

import http.client
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from random import Random

from prove.bodies import MIB, Body, make_bodies, put_all
from prove.figures import Row
from prove.house import House
from prove.hurt import data_of, out_of_memory
from prove.zygote import Zygote

#: What verified cold reads must come to, of unverified ones.
LEAST = 0.8

#: What the slowest GETs may take while scrubbed, of what they take else.
MOST = 1.1

_CLIENT = """
import json, socket, sys, threading, time
port, seconds, connections = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
heads = [line.strip().encode() for line in sys.stdin]
times = []
def run(number):
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer, at, end = bytearray(1 << 17), number, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        link.sendall(b"GET /" + heads[at % len(heads)] + b" HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        at += connections
        got, wanted = 0, 1 << 30
        while got < wanted:
            count = link.recv_into(buffer)
            if not count: raise SystemExit("cut")
            if not got:
                head = bytes(buffer[:count]).split(b"\\r\\n\\r\\n")[0]
                length = head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0]
                wanted = len(head) + 4 + int(length)
            got += count
        times.append(time.monotonic() - began)
threads = [threading.Thread(target=run, args=(each,)) for each in range(connections)]
for each in threads: each.start()
for each in threads: each.join()
times.sort()
print(json.dumps([len(times), times[len(times) // 2], times[int(len(times) * 0.99)]]))
"""


def _rate(house: House, body: Body) -> float:
    """Read a blob off the disk; return bytes a second."""
    out_of_memory(data_of(house.store, body))
    buffer = memoryview(bytearray(MIB))
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=600)
    try:
        began = time.monotonic()
        connection.request("GET", f"/{body.digest}")
        answer = connection.getresponse()
        got = 0
        while count := answer.readinto(buffer):
            got += count
        if got != body.size:
            raise AssertionError(f"{got} bytes of {body.size}")
        return got / (time.monotonic() - began)
    finally:
        connection.close()


def _ranges(house: House, body: Body, chance: Random, count: int = 200) -> float:
    """Read ranges of 64 KiB off the disk; return how many a second."""
    out_of_memory(data_of(house.store, body))
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=600)
    try:
        began = time.monotonic()
        for _ in range(count):
            first = chance.randrange(body.size - 65_536)
            fields = {"Range": f"bytes={first}-{first + 65_535}"}
            connection.request("GET", f"/{body.digest}", headers=fields)
            connection.getresponse().read()
        return count / (time.monotonic() - began)
    finally:
        connection.close()


def reads(seed: int, size: int, turns: int) -> list[Row]:
    """Read a large blob off the disk, verified and not, in turns."""
    root = tempfile.mkdtemp(prefix="dtfc-prove-")
    begun = time.monotonic()
    sides: dict[str, list[float]] = {"chunk": [], "off": []}
    ranges: dict[str, list[float]] = {"chunk": [], "off": []}
    try:
        with Zygote() as zygote:
            house = House(zygote, f"{root}/node")
            house.start("--scrub-rate", "0")
            (body,) = make_bodies(Random(f"{seed} large"), 1, size=size)
            put_all([body], house.port)
            for turn in range(turns + 1):
                for verify in sides if turn % 2 else reversed(sides):
                    house.again("--scrub-rate", "0", "--verify", verify)
                    found = _rate(house, body)
                    some = _ranges(house, body, Random(f"{seed} {turn}"))
                    if turn:  # the first is to warm up
                        sides[verify].append(found)
                        ranges[verify].append(some)
            house.end()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    shares = [one / other for one, other in zip(sides["chunk"], sides["off"], strict=True)]
    share = statistics.median(shares)
    each = {verify: statistics.median(found) / MIB for verify, found in sides.items()}
    few = {verify: statistics.median(found) for verify, found in ranges.items()}
    cases = (
        f"{size // MIB:,} MiB, {turns} pairs: {each['chunk']:,.0f} MiB/s verified, "
        f"{each['off']:,.0f} not; median of ratios {share:.2f} "
        f"({min(shares):.2f}-{max(shares):.2f}); 64 KiB ranges: {few['chunk']:,.0f}/s "
        f"and {few['off']:,.0f}/s"
    )
    wrong = [f"{share:.2f} is less than {LEAST}"] if share < LEAST else []
    return [Row("cold reads, verified", cases, len(wrong), time.monotonic() - begun, seed, wrong)]


def _p99(house: House, bodies: list[Body], seconds: float, connections: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, str(house.port), str(seconds), str(connections)],
        input="\n".join(body.digest.hex for body in bodies),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.strip("[]\n").split(",")[2])


def scrubbing(seed: int, pairs: int, seconds: float) -> list[Row]:
    """Ask for blobs of 64 KiB while the scrub runs at its usual rate, and while it does not."""
    root = tempfile.mkdtemp(prefix="dtfc-prove-")
    rows: list[Row] = []
    try:
        with Zygote() as zygote:
            house = House(zygote, f"{root}/node")
            house.start("--scrub-rate", "0")
            # Enough for the scrub to read all the time, also if the node seems idle.
            count = round(pairs * (seconds + 3) * 2 * 20 / 16) + 1
            bodies = make_bodies(Random(f"{seed} scrub"), count, size=16 * MIB)
            small = make_bodies(Random(f"{seed} small"), 2000, size=65_536)
            put_all([*bodies, *small], house.port)

            # A flag would go before what the configuration says.
            house.end()
            house.start()

            def cold() -> None:
                for body in small:
                    out_of_memory(data_of(house.store, body))

            for name, prepare, asked in (
                ("hot", lambda: None, small[:100]),
                ("cold", cold, small),
            ):
                rows.append(_in_turns(name, house, asked, prepare, (seed, pairs, seconds)))
            house.end()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return rows


def _in_turns(
    name: str,
    house: House,
    bodies: list[Body],
    prepare: Callable[[], None],
    how: tuple[int, int, float],
) -> Row:
    seed, pairs, seconds = how
    begun = time.monotonic()
    _p99(house, bodies, min(seconds, 2), 16)
    found: dict[str, list[float]] = {"on": [], "off": []}
    for pair in range(pairs):
        for side in ("on", "off") if pair % 2 else ("off", "on"):
            house.configure(**({} if side == "on" else {"scrub_rate": 0}))
            # Until it has begun, or has stopped; and is calm in any case.
            time.sleep(2.2)
            prepare()
            connections = 16 if name == "hot" else 4
            found[side].append(_p99(house, bodies, seconds, connections))
    ratios = [one / other for one, other in zip(found["on"], found["off"], strict=True)]
    ratio = statistics.median(ratios)
    on, off = (statistics.median(found[side]) * 1000 for side in ("on", "off"))
    cases = (
        f"64 KiB, {pairs} pairs of {seconds:.0f} s: p99 {on:.2f} ms scrubbing, {off:.2f} ms not; "
        f"median of ratios {ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    )
    wrong = [f"{ratio:.2f} is more than {MOST}"] if ratio > MOST else []
    name = f"{name} GETs while scrubbed"
    return Row(name, cases, len(wrong), time.monotonic() - begun, seed, wrong)


def prove(seed: int, share: float) -> list[Row]:
    """Measure with a blob of a GiB, or a share of that."""
    size = max(8, int(1024 * share)) * MIB
    rows = reads(seed, size, max(3, int(7 * share)))
    rows += scrubbing(seed, max(3, int(7 * share)), max(1.0, 5 * share))
    for row in rows:
        print(f"  {row.name}: {row.cases}; {row.violations} wrong", flush=True)
    return rows
