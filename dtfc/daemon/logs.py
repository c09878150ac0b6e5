"""The daemon's log: one file for accesses and messages, opened anew when it was moved away.

Rules of this file: logging never stops the service. A line that cannot be
written is counted and lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    eventAsText,
    formatEvent,
    formatEventAsClassicLogText,
)
from zope.interface import implementer

_log = Logger()
_accesses = Logger(namespace="dtfc.access")


class Lines(Protocol):
    """Where whole lines of text go."""

    def line(self, text: str) -> None:
        """Write one line; ``text`` has no line end."""


class LoggedLines:
    """Lines that go through twistd's own log: what the access log is without ``--log``."""

    def line(self, text: str) -> None:
        """Log a line as an event of its own."""
        _accesses.info("{line}", line=text)

    def lines(self, texts: Sequence[str]) -> None:
        """Log each line as an event of its own."""
        for text in texts:
            self.line(text)


@implementer(ILogObserver)
class Messages:
    """Writes the log events of the process beside its access log.

    Args:
        lines: where to.
        as_json: one JSON object an event, for ``--log-format json``.
    """

    def __init__(self, lines: Lines, *, as_json: bool) -> None:
        self._lines = lines
        self._format = _as_json if as_json else formatEventAsClassicLogText

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        text = self._format(event)
        if text is not None:
            self._lines.line(text.rstrip("\n"))


def _as_json(event: LogEvent) -> str:
    level = event.get("log_level")
    entry = {
        "kind": "message",
        "at": round(event.get("log_time", 0.0), 3),
        "level": level.name if level is not None else "info",
        "from": event.get("log_namespace", ""),
        "message": formatEvent(event),
    }
    if "log_failure" in event:
        entry["traceback"] = eventAsText(event, includeTimestamp=False, includeSystem=False)
    return json.dumps(entry)
