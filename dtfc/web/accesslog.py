"""One line a request: combined, as Apache and nginx write it, or JSON.

Rules of this file: one entry is one line, whatever a client sent; quotes,
backslashes, controls and everything beyond ASCII are escaped; no credential
and no request body reaches it.

Lines are written together, every :data:`FLUSH` seconds or when there are many:
a system call for each line would cost a hot GET a tenth of its time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.http import datetimeToLogString

#: Seconds for which lines are gathered; what a kill -9 may cost the log.
FLUSH = 0.1

#: Lines gathered at most.
MOST_LINES = 1000


class Entry(NamedTuple):
    """What the access log says of one request.

    Args:
        at: when the answer ended, seconds since the epoch.
        address: the client's.
        line: the request line; ``-`` for what never became a request.
        status: the answer's; 499 where the client left before it.
        sent: bytes of the answer's body.
        seconds: from the end of the head to the end of the answer.
        referrer: the Referer field, or ``-``.
        agent: the User-Agent field, or ``-``.
    """

    at: float
    address: str
    line: str
    status: int
    sent: int
    seconds: float
    referrer: str = "-"
    agent: str = "-"


class Stamp:
    """The time as the combined format has it, made anew once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def at(self, seconds: float) -> str:
        """Return the stamp of a time, seconds since 1970."""
        second = int(seconds)
        if second != self._second:
            self._second = second
            self._text = datetimeToLogString(second)
        return self._text


_stamp = Stamp()


def combined(entry: Entry) -> str:
    """Return the entry in the combined log format."""
    at, address, line, status, sent, _, referrer, agent = entry
    return (
        f"{address} - - {_stamp.at(at)} "
        f'"{_quoted(line)}" {status} {sent} "{_quoted(referrer)}" "{_quoted(agent)}"'
    )


def as_json(entry: Entry) -> str:
    """Return the entry as one JSON object."""
    return json.dumps(
        {
            "at": round(entry.at, 3),
            "address": entry.address,
            "request": entry.line,
            "status": entry.status,
            "sent": entry.sent,
            "seconds": round(entry.seconds, 6),
            "referrer": entry.referrer,
            "agent": entry.agent,
        }
    )


def host_of(address: object) -> str:
    """Return the host part of a Twisted address, as logs show it."""
    return str(getattr(address, "host", None) or "unix")


FORMATS = {"combined": combined, "json": as_json}


class AccessLog:
    """Gathers lines and writes them together.

    Args:
        write: takes whole lines, without their line ends.
        form: ``combined`` or ``json``.
        clock: tells when to write.
    """

    def __init__(
        self, write: Callable[[Sequence[str]], object], form: str, clock: IReactorTime
    ) -> None:
        self._write = write
        self._format = FORMATS[form]
        self._clock = clock
        self._lines: list[str] = []
        self._flushing: IDelayedCall | None = None

    def note(self, entry: Entry) -> None:
        """Write an entry, soon."""
        self._lines.append(self._format(entry))
        if self._flushing is None:
            self._flushing = self._clock.callLater(FLUSH, self.flush)
        elif len(self._lines) >= MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered, now."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None and flushing.active():
            flushing.cancel()
        lines, self._lines = self._lines, []
        if lines:
            self._write(lines)


def _quoted(text: str) -> str:
    """Escape; what is short comes again and again, and is remembered."""
    return _remembered(text) if len(text) < 300 else _escaped(text)


def _escaped(text: str) -> str:
    """Escape what would end the quotes or the line, or reach a terminal as a command."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        character
        if character.isascii() and character.isprintable() and character not in '"\\'
        else "".join(f"\\x{byte:02x}" for byte in character.encode("latin-1", "replace"))
        for character in text
    )


_remembered = lru_cache(maxsize=2048)(_escaped)
