"""Proof: a thousand connections that are slow on purpose keep nobody out, and go.

slowhttptest opens them: heads that never end, bodies that trickle, answers that
are hardly read. Meanwhile an honest client asks for a blob of 64 KiB, on new
connections and on one that it keeps. Both begin with the attack.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from random import Random

from prove.figures import Row
from prove.house import House
from prove.zygote import Zygote

#: Connections of the attack.
CONNECTIONS = 1000

#: Seconds that an honest answer may take, 99 times of 100.
HONEST = 0.25

#: Seconds after its last connection that the attack may still hold one.
GONE = 60.0

_SIZE = 64 * 1024

#: Descriptors of blobs that have become hot meanwhile.
_HOT = 8


def modes(url: str, digest: str, connections: int, seconds: int) -> dict[str, list[str]]:
    """Return the arguments of slowhttptest for each kind of slowness."""
    rate = str(max(50, connections // 4))
    usual = ["-c", str(connections), "-r", rate, "-l", str(seconds), "-p", "3", "-i", "5"]
    return {
        "heads": ["-H", *usual, "-u", f"{url}/{digest}", "-x", "24"],
        "bodies": ["-B", *usual, "-u", f"{url}/x", "-t", "PUT", "-s", "8192", "-x", "10"],
        "answers": ["-X", *usual, "-u", f"{url}/{digest}", "-w", "512", "-y", "1024", "-n", "5",
                    "-z", "32", "-k", "3"],
    }  # fmt: skip


@dataclass
class Honest:
    """What the honest client saw.

    Args:
        port: of the node.
        digest: what it asks for.
    """

    port: int
    digest: str
    took: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def ask(self, stop: threading.Event, *, keep: bool) -> None:
        """Ask again and again until told to stop."""
        connection: http.client.HTTPConnection | None = None
        while not stop.is_set():
            began = time.monotonic()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                connection.request("GET", f"/{self.digest}")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200 or len(body) != _SIZE:
                    self.wrong.append(f"{answer.status} with {len(body)} bytes")
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                connection = None
            self.took.append(time.monotonic() - began)
            if connection is not None and not keep:
                connection.close()
                connection = None
            time.sleep(0.01)
        if connection is not None:
            connection.close()


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def store(port: int, name: str, body: bytes) -> str:
    """Store a blob; return its digest."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{name}", body=body)
    digest = json.loads(connection.getresponse().read())["sha512"]
    connection.close()
    return str(digest)


@dataclass
class Attack:
    """How many descriptors the node had while it was attacked.

    Args:
        pid: of the node.
        before: descriptors that it had.
        connections: of the attack.
    """

    pid: int
    before: int
    connections: int
    most: int = 0
    half_until: float = 0.0
    ended: float = 0.0

    def watch(self, attacker: subprocess.Popen[bytes], seconds: int) -> None:
        """Look on until the attack is over."""
        began = time.monotonic()
        while True:
            time.sleep(0.25)
            passed, held = time.monotonic() - began, descriptors(self.pid) - self.before
            self.most = max(self.most, held)
            if held > self.connections // 2:
                self.half_until = passed
            if attacker.poll() is not None:
                self.ended = passed
                return
            if passed > seconds + 20:
                attacker.kill()
                attacker.wait()
                self.ended = passed
                return


def attack(kind: str, connections: int, seconds: int, chance: Random) -> Row:
    """Attack a node in one way."""
    name = f"{connections} slow {kind}: an honest answer late, or the attack still there"
    program = shutil.which("slowhttptest")
    if program is None:
        return Row(name, "", 0, 0, skipped="it needs slowhttptest")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        house = House(zygote, f"{folder}/house")
        house.start()
        digest = store(house.port, "photo.jpg", chance.randbytes(_SIZE))
        # The attack asks for more than any kernel keeps.
        large = store(house.port, "film.mp4", chance.randbytes(32 * 1024 * 1024))
        time.sleep(0.5)
        seen = Attack(house.pid, descriptors(house.pid), connections)
        stop = threading.Event()
        honest = [Honest(house.port, digest) for _ in range(2)]
        clients = [
            threading.Thread(target=each.ask, args=(stop,), kwargs={"keep": bool(number)})
            for number, each in enumerate(honest)
        ]
        for client in clients:
            client.start()
        arguments = modes(f"http://127.0.0.1:{house.port}", large, connections, seconds)[kind]
        seen.watch(subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL), seconds)
        stop.set()
        for client in clients:
            client.join()
        until = time.monotonic() + 10
        while time.monotonic() < until and descriptors(house.pid) > seen.before + _HOT:
            time.sleep(0.1)
        after = descriptors(house.pid)
        house.end()
    return _told(name, seen, honest, after, time.monotonic() - began)


def _told(name: str, seen: Attack, honest: list[Honest], after: int, seconds: float) -> Row:
    took = [each for client in honest for each in client.took]
    p99 = statistics.quantiles(took, n=100)[98]
    wrong = [f"an honest client saw {each}" for client in honest for each in client.wrong[:5]]
    if p99 > HONEST:
        wrong.append(f"p99 {p99 * 1000:.0f} ms")
    if seen.half_until > GONE:
        wrong.append(f"half of them were there after {seen.half_until:.0f} s")
    if after > seen.before + _HOT:
        wrong.append(f"{after} descriptors, {seen.before} before")
    cases = (
        f"at most {seen.most} descriptors more; half of them gone after {seen.half_until:.0f} s, "
        f"all after {seen.ended:.0f} s; {len(took)} honest answers, "
        f"p50 {statistics.median(took) * 1000:.1f} ms, p99 {p99 * 1000:.0f} ms, "
        f"longest {max(took) * 1000:.0f} ms; descriptors {seen.before} before, {after} after"
    )
    return Row(name, cases, len(wrong), seconds, examples=wrong)


def prove(seed: int, share: float) -> list[Row]:
    """Attack in every way; with less than all, with fewer connections and for less long."""
    chance = Random(f"{seed} slow")
    connections = max(60, int(CONNECTIONS * share))
    seconds = 60 if share >= 1 else 4
    return [attack(kind, connections, seconds, chance) for kind in ("heads", "bodies", "answers")]
