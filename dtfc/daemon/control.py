"""What parent and workers say to each other: one JSON object a line, each with a ``kind``.

Rules of this file: pure; fed whole, byte by byte, and garbage. It knows no
process and no kind: who gets a message says what may be in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LONGEST = 8 << 20
"""Bytes of one message; settings with certificates and all counters are far from it."""

Message = dict[str, Any]


class BadMessage(ValueError):
    """What came is no message; nothing that follows can be believed."""


def pack(kind: str, **facts: Any) -> bytes:
    """Return a message as it goes over the channel."""
    return json.dumps({"kind": kind, **facts}, separators=(",", ":")).encode("ascii") + b"\n"


class Inbox:
    """Makes messages of bytes, however they were cut."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes; yield every message that is complete.

        Raises:
            BadMessage: what came is none.
        """
        begin = len(self._rest)
        self._rest += data
        while (end := self._rest.find(b"\n", begin)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            begin = 0
            yield _message(line)
        if len(self._rest) > LONGEST:
            raise BadMessage(f"a message of more than {LONGEST} bytes")


def _message(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"no JSON: {line[:80]!r}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise BadMessage(f"no message: {line[:80]!r}")
    return message
