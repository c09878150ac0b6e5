"""One line a request: combined, as Apache and nginx write it, or JSON.

Rules of this file: one entry is one line, whatever a client sent; quotes,
backslashes, controls and everything beyond ASCII are escaped; no credential
and no request body reaches it.

Lines are written together, every :data:`FLUSH` seconds or when there are many:
a system call for each line would cost a hot GET a tenth of its time. A disk
thread writes them: while the disk is busy, appending to a file took 48 ms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from secrets import token_hex
from typing import Any, NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.web.http import datetimeToLogString

from dtfc.disk import Disk, InlineDisk
from dtfc.http.traces import Trace
from dtfc.web.auditlog import as_line

#: Seconds for which lines are gathered; what a kill -9 may cost the log.
FLUSH = 0.1

#: Lines gathered before they are written at once.
MOST_LINES = 1000

#: Lines that may wait for a disk that does not take them; then the loop waits.
MOST_WAITING = 20_000


#: How the blob was had that was asked for: kept open; on the disk; loaded from peers, then
#: sent; sent to a peer while it is loaded; peers were asked what they know of it (HEAD);
#: nobody has it; not everybody could be asked.
CACHE = ("hot", "here", "loaded", "loading", "asked", "absent", "unreached")

#: Characters of a Range field that are written.
LONGEST_RANGE = 200

_ALWAYS = frozenset({"request"})
_ours = token_hex(4)
_numbers = count()


def new_id() -> str:
    """Return an id of a request that no other has, of whatever process."""
    return f"{_ours}-{next(_numbers):x}"


class About(NamedTuple):
    """What only the JSON form says of a request.

    Args:
        method: of the request; empty for what never became one.
        route: the class of its URL, as in metrics.
        cache: one of :data:`CACHE`; empty if it is about no blob.
        digest: the blob, where it is known.
        received: bytes of the request's body.
        range: its Range field; empty if it has none.
        id: of the request; empty for a new one.
        trace: what it is a part of; None if it is of no trace.
    """

    method: str = ""
    route: str = "other"
    cache: str = ""
    digest: str = ""
    received: int = 0
    range: str = ""
    id: str = ""
    trace: Trace | None = None


NOTHING = About()


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
        principal: the name of the token that it brought, or ``-``.
        about: more, for the JSON form.
        first: the first byte that was sent of a part by the fast lane; -1 otherwise.
    """

    at: float
    address: str
    line: str
    status: int
    sent: int
    seconds: float
    referrer: str = "-"
    agent: str = "-"
    principal: str = "-"
    about: About = NOTHING
    first: int = -1


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
    at, address, line, status, sent, _, referrer, agent, principal, _, _ = entry
    return (
        f"{address} - {principal} {_stamp.at(at)} "
        f'"{_quoted(line)}" {status} {sent} "{_quoted(referrer)}" "{_quoted(agent)}"'
    )


def as_json(entry: Entry) -> str:
    """Return the entry as one JSON object; ``etc/log.schema.json`` has its members.

    What there is nothing to say of is left out.
    """
    about = entry.about
    told: dict[str, object] = {
        "kind": "access",
        "at": round(entry.at, 3),
        "id": about.id or new_id(),
        "client": entry.address,
        "request": entry.line,
        "method": about.method,
        "route": about.route,
        "status": entry.status,
        "bytes": entry.sent,
        "received": about.received,
        "duration": round(entry.seconds, 6),
        "principal": _said(entry.principal),
        "cache": about.cache,
        "sha512": about.digest,
        "range": about.range or _range_of(entry),
        "referrer": _said(entry.referrer),
        "agent": _said(entry.agent),
    }
    if about.trace is not None:
        trace = about.trace
        told |= {"trace": trace.trace, "span": trace.span, "parent": trace.parent}
    return json.dumps(
        {name: value for name, value in told.items() if value != "" or name in _ALWAYS}
    )


def _said(text: str) -> str:
    return "" if text == "-" else text


def _range_of(entry: Entry) -> str:
    return f"bytes={entry.first}-{entry.first + entry.sent - 1}" if entry.first >= 0 else ""


def host_of(address: object) -> str:
    """Return the host part of a Twisted address, as logs show it."""
    return str(getattr(address, "host", None) or "unix")


FORMATS: dict[str, Callable[[Any], str]] = {
    "combined": combined,
    "json": as_json,
    "audit": as_line,
}


class AccessLog:
    """Gathers lines and writes them together.

    Args:
        write: takes whole lines, without their line ends.
        form: one of :data:`FORMATS`.
        clock: tells when to write.
        disk: where ``write`` is called; None: on the loop.
    """

    _log = Logger()

    def __init__(
        self,
        write: Callable[[Sequence[str]], object],
        form: str,
        clock: IReactorTime,
        disk: Disk | None = None,
    ) -> None:
        self._write = write
        self._format = FORMATS[form]
        self._clock = clock
        self._disk = disk or InlineDisk()
        self._lines: list[str] = []
        self._flushing: IDelayedCall | None = None
        self._writing = False

    def note(self, entry: Any) -> None:
        """Write an entry, of the kind that the form is for, soon."""
        self._lines.append(self._format(entry))
        if self._flushing is None:
            self._flushing = self._clock.callLater(FLUSH, self._write_soon)
        elif len(self._lines) >= MOST_LINES:
            self._write_soon()

    def flush(self) -> None:
        """Write what was gathered, now, in the caller's thread."""
        self._no_timer()
        lines, self._lines = self._lines, []
        if lines:
            self._write(lines)

    def _write_soon(self) -> None:
        if self._writing:
            if len(self._lines) >= MOST_WAITING:
                self.flush()
            elif self._flushing is not None and not self._flushing.active():
                self._flushing = self._clock.callLater(FLUSH, self._write_soon)
            return
        self._no_timer()
        lines, self._lines = self._lines, []
        if lines:
            self._writing = True
            writing = self._disk.run(self._write, lines)
            writing.addErrback(lambda failure: self._log.failure("the access log", failure))
            writing.addBoth(self._written)

    def _written(self, _result: object) -> None:
        self._writing = False

    def _no_timer(self) -> None:
        flushing, self._flushing = self._flushing, None
        if flushing is not None and flushing.active():
            flushing.cancel()


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
