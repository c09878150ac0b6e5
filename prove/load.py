"""Proof 4: a daemon killed at random, again and again, under eight clients that never rest.

Each client has blobs of its own, and a memory of what each of them may be: what
was acknowledged is so; what was asked for when the daemon died may be or not,
until somebody looks. Every byte that arrives is compared.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field
from random import Random

from dtfc.digest import Digest
from dtfc.store.blobs import open_store
from prove.figures import Row
from prove.ledger import State
from prove.zygote import Zygote, free_port, wait_until_open

CLIENTS = 8
_BLOBS = 24  # of each client


@dataclass(slots=True)
class Blob:
    """A blob, and what it may be."""

    body: bytes
    name: str
    may_be: set[State] = field(default_factory=lambda: {"never"})

    @property
    def digest(self) -> str:
        """Its digest, in hexadecimal."""
        return Digest.of(self.body).hex


class Client(threading.Thread):
    """One client, which goes on until it is told to stop.

    Args:
        number: which one.
        port: of the daemon.
        seed: of what it does.
    """

    def __init__(self, number: int, port: int, seed: int) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._port = port
        self._chance = Random(f"{seed} client {number}")
        self._connection: http.client.HTTPConnection | None = None
        self.stopped = threading.Event()
        self.wrong: list[str] = []
        self.done = 0
        self.cut = 0
        sizes = (10, 3000, 60_000, 400_000)
        self.blobs = [
            Blob(self._chance.randbytes(self._chance.choice(sizes)), f"client-{number}-{each}")
            for each in range(_BLOBS)
        ]

    def run(self) -> None:
        """Do this and that."""
        try:
            while not self.stopped.is_set():
                self.act(self._chance.choice(self.blobs))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be known
            self.wrong.append(f"{self.name} died of {error!r}")

    def act(self, blob: Blob) -> None:
        """Do one thing to a blob."""
        what = self._chance.random()
        if what < 0.4:
            self._change("PUT", f"/{blob.name}", blob, "here", (200, 201))
        elif what < 0.55:
            self._change("DELETE", f"/{blob.digest}", blob, "deleted", (200, 204, 404))
        elif what < 0.8 or len(blob.body) < 20:
            self.get(blob)
        else:
            first = self._chance.randrange(len(blob.body))
            self.get(blob, (first, self._chance.randrange(first, len(blob.body))))

    def _ask(
        self, method: str, path: str, body: bytes | None = None, span: str = ""
    ) -> tuple[int, bytes] | None:
        """Ask the daemon; None if it died meanwhile, or was not there."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                self._connection.connect()
        except OSError:
            self.hang_up()
            time.sleep(0.01)
            return None
        try:
            fields = {"Range": span} if span else {}
            self._connection.request(method, path, body=body, headers=fields)
            answer = self._connection.getresponse()
            content = answer.read()
        except TimeoutError:
            self.wrong.append(f"{method} {path[:20]} got no answer")
            self.hang_up()
        except (OSError, http.client.HTTPException):
            self.hang_up()
        else:
            self.done += 1
            if answer.getheader("Connection", "").lower() == "close":
                self.hang_up()
            return answer.status, content
        return None

    def hang_up(self) -> None:
        """Let go of the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _change(
        self, method: str, path: str, blob: Blob, result: State, expected: tuple[int, ...]
    ) -> None:
        # So that what is asked for is uncertain only if it may have arrived.
        if self._connection is None and self._ask("HEAD", "/health.html") is None:
            return
        body = blob.body if method == "PUT" else None
        answer = self._ask(method, path, body)
        if answer is None:
            self.cut += 1
            blob.may_be.add(result)
        elif answer[0] in expected:
            blob.may_be = {result}
        else:
            self.wrong.append(f"{method}: {answer[0]} {answer[1][:200]!r}")

    def get(self, blob: Blob, part: tuple[int, int] | None = None) -> None:
        """Read a blob, or a part of it, and compare."""
        span = "" if part is None else f"bytes={part[0]}-{part[1]}"
        answer = self._ask("GET", f"/{blob.digest}", span=span)
        if answer is None:
            return
        status, content = answer
        if status in (200, 206):
            found: State = "here"
            wanted = (
                blob.body if status == 200 else blob.body[part[0] : part[1] + 1] if part else b""
            )
            if content != wanted:
                self.wrong.append(f"{blob.name}: wrong bytes, {len(content)} of them")
        elif status == 404:
            found = "deleted" if b'"deleted": true' in content else "never"
        else:
            self.wrong.append(f"GET: {status} {content[:200]!r}")
            return
        if found not in blob.may_be:
            self.wrong.append(f"{blob.name} is {found}, not {sorted(blob.may_be)}")
        blob.may_be = {found}


class Ordeal:
    """A daemon, its clients, and its many deaths.

    Args:
        zygote: starts the daemon.
        folder: an empty folder.
        seed: of everything random.
    """

    def __init__(self, zygote: Zygote, folder: str, seed: int) -> None:
        self._zygote = zygote
        self._folder = folder
        self._chance = Random(seed)
        self._port = free_port()
        self.clients = [Client(number, self._port, seed) for number in range(CLIENTS)]
        self.wrong: list[str] = []
        self.slowest = 0.0

    def _start(self) -> int:
        flags = ["--port", str(self._port), "--interface", "127.0.0.1", "--fan-out", "2"]
        flags += ["--basedir", f"{self._folder}/store", "--reserve", "1M"]
        begun = time.monotonic()
        pid = self._zygote.start(flags, self._folder, f"{self._folder}/output")
        wait_until_open(self._port)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        return pid

    def run(self, kills: int) -> None:
        """Kill it so often, and look at what is left."""
        pid = self._start()
        for client in self.clients:
            client.start()
        for number in range(kills):
            time.sleep(self._chance.uniform(0.0, 0.25))
            writers = _children(pid) if self._chance.random() < 0.5 else []
            for writer in writers:
                os.kill(writer, signal.SIGKILL)
            self._zygote.end(pid, signal.SIGKILL)
            pid = self._start()
            if number % 100 == 99:
                self._collect()
        for client in self.clients:
            client.stopped.set()
        for client in self.clients:
            client.join()
        for client in self.clients:
            for blob in client.blobs:
                client.get(blob)
            client.hang_up()
        self._zygote.end(pid, signal.SIGTERM)
        self._collect()
        self._orphans()

    def _collect(self) -> None:
        for client in self.clients:
            self.wrong += client.wrong
            client.wrong = []
        with open(f"{self._folder}/output", encoding="utf-8", errors="replace") as file:
            log = file.read()
        self.wrong += ["a traceback in the log"] * log.count("Traceback")
        os.truncate(f"{self._folder}/output", 0)

    def _orphans(self) -> None:
        begun = time.monotonic()
        store = open_store(f"{self._folder}/store", reserve=0)
        if time.monotonic() - begun > 1:
            self.wrong.append("the last opening took more than a second")
        own = store.layout.own("")
        for name, expected in (("tmp", []), ("partial", []), ("log", ["lock"])):
            if os.listdir(own + name) != expected:
                self.wrong.append(f"litter in {name}: {os.listdir(own + name)}")
        store.close()


def _children(pid: int) -> list[int]:
    """Return the processes that a daemon has started."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(each) for each in file.read().split()]
    except OSError:
        return []


def kill(kills: int, seed: int) -> Row:
    """Kill a daemon under load."""
    begun = time.monotonic()
    folder = tempfile.mkdtemp(prefix="dtfc-prove-")
    try:
        with Zygote() as zygote:
            ordeal = Ordeal(zygote, folder, seed)
            ordeal.run(kills)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    done = sum(client.done for client in ordeal.clients)
    cut = sum(client.cut for client in ordeal.clients)
    cases = (
        f"{kills:,} kills, {done:,} answers, {cut:,} PUTs and DELETEs cut off; "
        f"longest start {ordeal.slowest:.2f} s"
    )
    wrong = ordeal.wrong
    seconds = time.monotonic() - begun
    return Row("kill -9 under load", cases, len(wrong), seconds, seed, wrong[:10])


def prove(seed: int, share: float) -> list[Row]:
    """Kill it 2,000 times, or a share of that."""
    return [kill(max(1, int(2000 * share)), seed)]
