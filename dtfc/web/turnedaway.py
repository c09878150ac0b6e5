"""A connection of an address that has too many already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dtfc.web.accesslog import host_of

if TYPE_CHECKING:
    from dtfc.web.site import Site

#: Connections that are told so at once; further ones are closed without a word.
MOST_TURNED_AWAY = 64

#: Seconds for which one of them is waited for.
SECONDS = 1.0


class TurnedAway(Protocol):
    """Answers the first thing that comes, whatever it is, and closes.

    Args:
        site: counts and logs it.
        answer: the whole answer.
        status: its status.
    """

    transport: Any

    def __init__(self, site: Site, answer: bytes, status: int) -> None:
        self._site = site
        self._answer = answer
        self._status = status
        self._end: IDelayedCall | None = None
        self.address = ""

    def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
        """Wait for a request, which would be lost with its answer if it were not read."""
        self._site.turned_away += 1
        self.address = host_of(self.transport.getPeer())
        self._end = self._site.clock.callLater(SECONDS, self._close)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802, ARG002 -- Twisted's name
        """Say why not."""
        if self._answer:
            self.transport.write(self._answer)
            self._answer = b""
            self._site.log_refused(self, self._status)
            self.transport.loseConnection()

    def _close(self) -> None:
        self._end = None
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802, ARG002
        """Make room for the next."""
        self._site.turned_away -= 1
        if self._end is not None:
            self._end.cancel()
