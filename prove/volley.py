"""Many inputs for one port, each on a connection of its own, some at a time."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

#: Seconds that an input may take until the node has answered and closed.
HANGS = 15.0

_AT_ONCE = 48


@dataclass(slots=True)
class Shot:
    """One input, and what came back.

    Args:
        title: what it is.
        data: what is sent.
        pieces: bytes sent at a time; 0 for all at once.
        close: whether the sending side is closed behind it.
    """

    title: str
    data: bytes
    pieces: int = 0
    close: bool = True
    sent: int = 0
    began: float = 0.0
    received: int = 0
    start: bytes = b""
    hung: bool = False

    @property
    def status(self) -> int:
        """Of the first answer; 0 for none."""
        parts = self.start.split(b" ", 2)
        whole = len(parts) == 3 and self.start.startswith(b"HTTP/1.1 ") and parts[1].isdigit()
        return int(parts[1]) if whole else 0


@dataclass
class Volley:
    """Sends inputs to a port of this machine.

    Args:
        port: whose.
        told: called with each input that is over.
    """

    port: int
    told: Callable[[Shot], None] = lambda _shot: None
    count: int = 0
    hung: list[str] = field(default_factory=list)

    def fire(self, shots: Iterable[Shot]) -> None:
        """Send them all, and wait for the end of each."""
        coming = iter(shots)
        with selectors.DefaultSelector() as selector:
            for _ in range(_AT_ONCE):
                self._next(selector, coming)
            while selector.get_map():
                for key, events in selector.select(1.0):
                    self._step(selector, key, events, coming)
                self._look_for_hanging(selector, coming)

    def _next(self, selector: selectors.BaseSelector, coming: Iterator[Shot]) -> None:
        shot = next(coming, None)
        if shot is None:
            return
        shot.began = time.monotonic()
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", self.port))
        selector.register(connection, selectors.EVENT_WRITE | selectors.EVENT_READ, shot)

    def _step(
        self,
        selector: selectors.BaseSelector,
        key: selectors.SelectorKey,
        events: int,
        coming: Iterator[Shot],
    ) -> None:
        connection, shot = key.fileobj, key.data
        assert isinstance(connection, socket.socket)
        try:
            over = self._read(connection, shot) if events & selectors.EVENT_READ else False
            if not over and events & selectors.EVENT_WRITE:
                self._write(selector, connection, shot)
        except OSError:
            over = True
        if over:
            self._end(selector, connection, shot, coming)

    def _read(self, connection: socket.socket, shot: Shot) -> bool:
        try:
            data = connection.recv(1 << 20)
        except BlockingIOError:
            return False
        shot.received += len(data)
        if len(shot.start) < 4096:
            shot.start += data[:4096]
        return not data

    def _write(
        self, selector: selectors.BaseSelector, connection: socket.socket, shot: Shot
    ) -> None:
        size = shot.pieces or 1 << 18
        try:
            shot.sent += connection.send(shot.data[shot.sent : shot.sent + size])
        except BlockingIOError:
            return
        if shot.sent >= len(shot.data):
            if shot.close:
                connection.shutdown(socket.SHUT_WR)
            selector.modify(connection, selectors.EVENT_READ, shot)

    def _end(
        self,
        selector: selectors.BaseSelector,
        connection: socket.socket,
        shot: Shot,
        coming: Iterator[Shot],
    ) -> None:
        selector.unregister(connection)
        connection.close()
        self.count += 1
        self.told(shot)
        self._next(selector, coming)

    def _look_for_hanging(self, selector: selectors.BaseSelector, coming: Iterator[Shot]) -> None:
        now = time.monotonic()
        for key in list(selector.get_map().values()):
            if now - key.data.began > HANGS:
                key.data.hung = True
                self.hung.append(f"{key.data.title}: {key.data.data[:120]!r}")
                assert isinstance(key.fileobj, socket.socket)
                self._end(selector, key.fileobj, key.data, coming)


def resident(pid: int) -> float:
    """Return how much memory a process has, in MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS")
