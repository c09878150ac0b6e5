"""The last things that went wrong, as the node's log has them: a ring, for the page.

Rules of this file: nothing secret. What stands behind a question mark is left
out, and so is what stands before an @ in an address; of an exception only its
own words are told, and no traceback. What was told twice in a row is one entry.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, cast

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import implementer

#: Entries kept.
KEPT = 50

#: Characters of one.
LONGEST = 400

_QUERY = re.compile(r"\?[^\s\"'<>]+")
_USER = re.compile(r"//[^/\s@]*@")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong.

    Args:
        at: when it was told last, in seconds since 1970.
        level: ``warn``, ``error`` or ``critical``.
        text: in words.
        times: how often it was told, one time after another.
    """

    at: float
    level: str
    text: str
    times: int = 1

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "at": round(self.at, 3),
            "level": self.level,
            "text": self.text,
            "times": self.times,
        }


@implementer(ILogObserver)
class Troubles:
    """Remembers what the log says is wrong.

    Args:
        kept: how many entries.
        publisher: of the log; the process's own if None.
    """

    def __init__(self, kept: int = KEPT, publisher: LogPublisher | None = None) -> None:
        self._kept: deque[Trouble] = deque(maxlen=kept)
        self._publisher = publisher or globalLogPublisher

    def start(self) -> None:
        """Begin to listen."""
        self._publisher.addObserver(cast("ILogObserver", self))

    def stop(self) -> None:
        """Listen no more; harmless when repeated."""
        self._publisher.removeObserver(cast("ILogObserver", self))

    def __call__(self, event: LogEvent) -> None:
        """Take an event of the log."""
        level = event.get("log_level")
        if level is None or level < LogLevel.warn:
            return
        trouble = Trouble(float(event.get("log_time", 0.0)), level.name, words_of(event))
        last = self._kept[-1] if self._kept else None
        if last is not None and (last.level, last.text) == (trouble.level, trouble.text):
            self._kept[-1] = replace(trouble, times=last.times + 1)
        else:
            self._kept.append(trouble)

    def latest(self) -> list[Trouble]:
        """Return the entries, the latest first."""
        return list(reversed(self._kept))


def words_of(event: LogEvent) -> str:
    """Return what an event says, in one line and without what is nobody's business."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.getErrorMessage()}"
    text = "".join(" " if unicodedata.category(each)[0] == "C" else each for each in text)
    text = _USER.sub("//…@", _QUERY.sub("?…", " ".join(text.split())))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
