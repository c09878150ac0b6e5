"""Peers that lie: they have every blob, and none of it right."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol

#: Ways to lie: what is wrong with an answer.
LIES = ("wrong byte", "short", "long", "wrong length", "wrong range", "silent", "reset", "endless")

_HEAD = re.compile(rb"(GET|HEAD) /([0-9a-f]{128})(?:/([a-z]+))? ")
_RANGE = re.compile(rb"\r\n[Rr]ange: bytes=(\d*)-(\d*)")


class Lying(Protocol):
    """One connection to a liar.

    Args:
        lie: which.
        content_of: the blob of a digest; None if there never was one.
    """

    transport: Any

    def __init__(self, lie: str, content_of: Callable[[str], bytes | None]) -> None:
        self._lie = lie
        self._content_of = content_of
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer what is asked, wrongly."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(head + b"\r\n")

    def _answer(self, head: bytes) -> None:
        asked = _HEAD.match(head)
        content = self._content_of(asked[2].decode()) if asked else None
        if asked is None or content is None or (asked[3] not in (None, b"nopeerload")):
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        if self._lie == "silent":
            return
        if self._lie == "reset":
            self.transport.abortConnection()
            return
        self.transport.write(self._lied(asked[1], content, _RANGE.search(head)))
        if self._lie == "short":
            self.transport.loseConnection()

    def _lied(self, method: bytes, content: bytes, part: re.Match[bytes] | None) -> bytes:
        content = self._spoilt(content)
        total = len(content)
        start, end = 0, total
        status, extra = b"200 OK", b""
        if part is not None and total:
            if part[1]:
                start = int(part[1])
                end = min(total, int(part[2]) + 1) if part[2] else total
            else:
                start = max(0, total - int(part[2]))
            if start >= end:
                return (
                    b"HTTP/1.1 416 No\r\nContent-Range: bytes */%d\r\nContent-Length: 0\r\n\r\n"
                    % total
                )
            told = start + 1 if self._lie == "wrong range" else start
            status = b"206 Partial Content"
            extra = b"Content-Range: bytes %d-%d/%d\r\n" % (told, told + end - start - 1, total)
        body = content[start:end]
        length = len(body)
        if self._lie == "short":
            body = body[: length // 2]
        if self._lie == "endless":
            body += bytes(100_000)
        answer = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n" % (status, length, extra)
        return answer if method == b"HEAD" else answer + body

    def _spoilt(self, content: bytes) -> bytes:
        if self._lie == "wrong byte" and content:
            at = hashlib.sha256(content).digest()[0] * len(content) // 256
            return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        if self._lie == "long":
            return content + b"more"
        if self._lie == "wrong length":
            return content[: len(content) // 2]
        return content


class Liar(Factory):
    """A liar.

    Args:
        lie: which.
        content_of: the blob of a digest; None if there never was one.
    """

    noisy = False

    def __init__(self, lie: str, content_of: Callable[[str], bytes | None]) -> None:
        self._lie = lie
        self._content_of = content_of

    def buildProtocol(self, addr: Any) -> Lying:
        """Take a connection."""
        del addr
        return Lying(self._lie, self._content_of)
