"""A client: one request on one connection, and what became of it.

Written without a library, so that nothing stands between the bytes that came and
what is believed of them: an answer is complete if its framing says so, not when
the connection ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from simulate.machine import Machine

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(eq=False)
class Answer:
    """What came of a request.

    Args:
        status: 0 until a head has come.
        fields: of the head, names in lower case.
        body: what came of it.
        complete: whether all of it came.
        over: whether nothing more can come.
    """

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    over: bool = False


class Asking(Protocol):
    """One request.

    Args:
        head: of the request.
        body: of the request.
        leave_after: bytes of the answer after which the client leaves; -1 for never.
        pause: seconds for which it reads nothing, after the head of the answer.
        done: told when it is over.
    """

    transport: Any

    def __init__(
        self,
        head: bytes,
        body: bytes,
        done: Callable[[], None],
        *,
        leave_after: int = -1,
        pause: float = 0.0,
    ) -> None:
        self.answer = Answer()
        self.machine: Machine | None = None
        self._head = head
        self._body = body
        self._done = done
        self._leave_after = leave_after
        self._pause = pause
        self._received = bytearray()
        self._want: int | None = None

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.patient = True
        self.transport.write(self._head + self._body)

    def dataReceived(self, data: bytes) -> None:
        """Take some of the answer."""
        if self.answer.over:
            return
        if self.answer.status == 0:
            self._received += data
            if not self._head_came():
                return
            if self._pause and self.machine is not None:
                self.transport.pauseProducing()
                self.machine.callLater(self._pause, self.transport.resumeProducing)
        else:
            self.answer.body += data
        if self._want is not None and len(self.answer.body) >= self._want:
            self.answer.complete = True
            self._end()
        elif 0 <= self._leave_after <= len(self.answer.body):
            self._end()

    def _head_came(self) -> bool:
        while True:
            head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
            if not found:
                return False
            match = _STATUS.match(head)
            status = int(match[1]) if match else 599
            self._received = bytearray(rest)
            if status != 100:
                break
        answer = self.answer
        answer.status = status
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            answer.fields[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        answer.body += rest
        bodiless = self._head.startswith(b"HEAD ") or status in (204, 304)
        length = answer.fields.get("content-length")
        self._want = 0 if bodiless else None if length is None else int(length)
        return True

    def _end(self) -> None:
        self.transport.abortConnection()
        self._over()

    def _over(self) -> None:
        if not self.answer.over:
            self.answer.over = True
            self._done()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing more comes."""
        del reason
        self._over()

    def failed(self) -> None:
        """There was no connection."""
        self._over()


class Asker(ClientFactory):
    """Makes one connection for one request.

    Args:
        asking: the request.
    """

    noisy = False

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def buildProtocol(self, addr: Any) -> Asking:
        """Give the protocol."""
        del addr
        return self._asking

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Tell that nobody was there."""
        del connector, reason
        self._asking.failed()


def request_head(method: str, path: str, host: str, fields: dict[str, str]) -> bytes:
    """Compose the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
