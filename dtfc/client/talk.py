"""A body on its way to a node, which may answer before it has it all: what it says is kept.

Rules of this file: of an early answer so much is kept as a problem may have, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall

from dtfc.peers.sending import Outgoing

_LARGEST_REFUSAL = 64 * 1024

#: Seconds for the rest of a refusal that came while the body was still being sent.
_REST_OF_REFUSAL = 2.0

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body is small, and here.

    Args:
        status: of the answer.
        fields: by lower-case names; of several the last.
        body: all of it.
    """

    status: int
    fields: Mapping[str, str]
    body: bytes


class Heard(Exception):
    """A node answered before it had the whole body."""


class Talk(Outgoing):
    """A body that stops when the node answers early, and keeps what it said."""

    early = b""
    refusal: int | None = None
    _waiting: IDelayedCall | None = None

    def answered(self, data: bytes) -> None:
        """Gather an early answer; a leave to go on is for whoever waits for it."""
        if self.refusal is None:
            found = _STATUS.match(data)
            if found is None or int(found[1]) < 200:
                super().answered(data)
                return
            self.refusal = int(found[1])
            self._stop_sending()
        self.early = (self.early + data)[:_LARGEST_REFUSAL]
        if _is_whole(self.early):
            self._told()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The connection is gone, or the request was given up."""
        self._forget_timer()
        super().stopProducing()

    def _stop_sending(self) -> None:
        # Not as an end: that comes when the refusal is here.
        done, self._done = self._done, None
        self._give_up()
        self._done = done
        self._waiting = self._clock.callLater(_REST_OF_REFUSAL, self._told)

    def _told(self) -> None:
        self._forget_timer()
        self._fail(Heard())

    def _forget_timer(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.active():
            waiting.cancel()


def _is_whole(early: bytes) -> bool:
    head, end, body = early.partition(b"\r\n\r\n")
    if not end:
        return len(early) >= _LARGEST_REFUSAL
    length = _early_fields(head).get("content-length", "")
    return length.isdigit() and len(body) >= min(int(length), _LARGEST_REFUSAL - len(head) - 4)


def _early_fields(head: bytes) -> dict[str, str]:
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            fields[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
    return fields


def read_early(status: int, early: bytes) -> Answer:
    """Read an early answer, as far as it came."""
    head, _, body = early.partition(b"\r\n\r\n")
    return Answer(status, _early_fields(head), body)
