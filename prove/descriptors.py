"""Proof: a node with 256 open files, and a thousand clients.

Each client connects, asks for a blob, and holds its connection for a while before it
asks again. Meanwhile the node must stay, and say nothing but answers; two seconds
after they have left it serves everybody at once.
"""

from __future__ import annotations

import os
import random
import resource
import selectors
import signal
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from prove.figures import Row
from prove.house import House
from prove.slow import descriptors, store
from prove.zygote import Zygote

DESCRIPTORS = 256
CLIENTS = 1000

#: Seconds after the storm in which all must be well again.
CALM = 2.0

_AFTERWARDS = 200


@dataclass
class Storm:
    """Many clients in one thread.

    Args:
        port: of the node.
        request: what each sends.
        clients: how many.
        chance: for how long each holds on.
    """

    port: int
    request: bytes
    clients: int
    chance: Random
    answered: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)

    def rage(self, seconds: float) -> None:
        """Connect, ask, hold on, and begin again, until the time is over."""
        with selectors.DefaultSelector() as selector:
            until = time.monotonic() + seconds
            for _ in range(self.clients):
                self._begin(selector)
            while time.monotonic() < until:
                for key, _ in selector.select(0.1):
                    self._step(selector, key)
                self._let_go(selector)
            for each in list(selector.get_map().values()):
                self._end(selector, each.fileobj)

    def _begin(self, selector: selectors.BaseSelector) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", self.port))
        selector.register(connection, selectors.EVENT_WRITE, 0.0)

    def _step(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        connection = key.fileobj
        if not isinstance(connection, socket.socket):
            return
        try:
            if key.events == selectors.EVENT_WRITE:
                connection.send(self.request)
                selector.modify(connection, selectors.EVENT_READ, 0.0)
                return
            data = connection.recv(262_144)
        except OSError:
            data = b""
        if not data:
            self.refused += not key.data
            self._end(selector, connection)
            self._begin(selector)
        elif not key.data:
            self.answered += 1
            if not data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")):
                self.wrong.append(repr(data[:60]))
            until = time.monotonic() + self.chance.random() * 2
            selector.modify(connection, selectors.EVENT_READ, until)

    def _let_go(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for each in list(selector.get_map().values()):
            if each.data and each.data < now:
                self._end(selector, each.fileobj)
                self._begin(selector)

    def _end(self, selector: selectors.BaseSelector, connection: object) -> None:
        if isinstance(connection, socket.socket):
            selector.unregister(connection)
            connection.close()


def storm(seed: int, clients: int, seconds: float) -> Row:
    """Let the clients loose on a node."""
    began = time.monotonic()
    name = f"{clients} clients of a node with {DESCRIPTORS} open files: it is down, or slow after"
    chance = random.Random(f"{seed} descriptors")
    # So many clients need as many files here.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < clients + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, clients + 500), hard))
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        house = House(zygote, f"{folder}/house")
        house.start()
        digest = store(house.port, "photo.jpg", chance.randbytes(64 * 1024))
        resource.prlimit(house.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        os.kill(house.pid, signal.SIGHUP)
        time.sleep(0.5)
        before = descriptors(house.pid)
        request = f"GET /{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        clients_ = Storm(house.port, request, clients, chance)
        clients_.rage(seconds)
        time.sleep(CALM)
        wrong = clients_.wrong[:5]
        slowest = 0.0
        for _ in range(_AFTERWARDS):
            took = _ask(house.port, request)
            if took is None:
                wrong.append("a request after it had no answer")
                break
            slowest = max(slowest, took)
        if slowest > 0.5:
            wrong.append(f"an answer after it took {slowest:.1f} s")
        after = descriptors(house.pid)
        if after > before + 8:
            wrong.append(f"{after} descriptors, {before} before")
        with open(f"{house.folder}/output", encoding="utf-8", errors="replace") as log:
            wrong += [line.strip() for line in log if "Traceback" in line][:3]
        house.end()
    cases = (
        f"{clients_.answered} answers and {clients_.refused} closed connections in "
        f"{seconds:g} s; after {CALM:g} s {_AFTERWARDS} of {_AFTERWARDS} answered, the slowest in "
        f"{slowest * 1000:.0f} ms; descriptors {before} and {after}"
    )
    return Row(name, cases, len(wrong), time.monotonic() - began, seed, wrong)


def _ask(port: int, request: bytes) -> float | None:
    began = time.monotonic()
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        if connection.recv(20).startswith(b"HTTP/1.1 200"):
            return time.monotonic() - began
    return None


def prove(seed: int, share: float) -> list[Row]:
    """Storm; with less than all, with fewer clients and for less long."""
    return [storm(seed, max(300, int(CLIENTS * share)), 20.0 if share >= 1 else 3.0)]
