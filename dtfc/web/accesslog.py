"""One line a request: combined, as Apache and nginx write it, or JSON.

Rules of this file: one entry is one line, whatever a client sent; quotes,
backslashes, controls and everything beyond ASCII are escaped; no credential
and no request body reaches it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from twisted.web.http import datetimeToLogString


@dataclass(frozen=True, slots=True)
class Entry:
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


def combined(entry: Entry) -> str:
    """Return the entry in the combined log format."""
    return (
        f"{entry.address} - - {datetimeToLogString(entry.at)} "
        f'"{_quoted(entry.line)}" {entry.status} {entry.sent} '
        f'"{_quoted(entry.referrer)}" "{_quoted(entry.agent)}"'
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


def _quoted(text: str) -> str:
    """Escape what would end the quotes or the line, or reach a terminal as a command."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        character
        if character.isascii() and character.isprintable() and character not in '"\\'
        else "".join(f"\\x{byte:02x}" for byte in character.encode("latin-1", "replace"))
        for character in text
    )
