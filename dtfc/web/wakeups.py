"""Which connections have something to read, asked for all of them at once.

Twisted's reactor wraps every single event in a logging context of its own, and
that takes longer than all else it does for it: 2 of the 14 microseconds that a
hot GET costs (measured, with 16 connections). So on Linux the connections of a
port wait in an epoll of their own, which the reactor sees as one descriptor.
What is written, and every other reactor, goes Twisted's way.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from twisted.internet import main
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from dtfc.web.transmit import FileServer

#: Connections that are read from before others have their turn: those that
#: write, and everything that is not a connection.
MOST_AT_ONCE = 64

_log = Logger()


def wakeups_of(reactor: Any) -> Wakeups | None:
    """Return what tells of connections that can be read from.

    Args:
        reactor: the loop.

    Returns:
        None where the reactor does not use epoll: then it tells itself.
    """
    kind = type(getattr(reactor, "plain", reactor)).__name__
    if not hasattr(select, "epoll") or kind != "EPollReactor":
        return None
    return Wakeups(reactor)


@implementer(IReadDescriptor)
class Wakeups:
    """The connections of one port that wait for something to read.

    Args:
        reactor: the loop; it has to use epoll.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._waiting: dict[int, FileServer] = {}
        reactor.addReader(self)

    def add(self, connection: FileServer) -> None:
        """Read from a connection when something has come; harmless when repeated."""
        fd = connection.fileno()
        if fd not in self._waiting:
            self._waiting[fd] = connection
            self._epoll.register(fd, select.EPOLLIN)

    def remove(self, connection: FileServer) -> None:
        """Read no more from it; harmless when repeated."""
        fd = connection.fileno()
        if self._waiting.get(fd) is connection:
            del self._waiting[fd]
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Let go of the epoll; connections are cut by then. Harmless when repeated."""
        self._reactor.removeReader(self)
        self._epoll.close()
        self._waiting.clear()

    # What the reactor calls.

    def fileno(self) -> int:
        """The epoll's descriptor, which is readable when a connection is."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:  # noqa: N802 -- Twisted's name
        """What log lines say."""
        return "dtfc"

    def doRead(self) -> None:  # noqa: N802 -- Twisted's name
        """Read from every connection that something has come for."""
        waiting = self._waiting
        for fd, event in self._epoll.poll(0, MOST_AT_ONCE):
            connection = waiting.get(fd)
            if connection is None:
                continue  # closed by one before it
            try:
                if event & select.EPOLLIN:
                    why = connection.doRead()
                else:
                    # All that came was read: an orderly end, or half of one.
                    why = main.CONNECTION_DONE
            except Exception as error:  # noqa: BLE001 -- as the reactor does: it ends the connection
                _log.failure("reading from a connection failed")
                why = error
            if why is not None:
                connection.stopReading()
                # Half-closed or gone: by Twisted's own rules.
                self._reactor._disconnectSelectable(connection, why, True)  # noqa: SLF001 -- no public name

    def connectionLost(self, reason: Any) -> None:  # noqa: N802 -- Twisted's name
        """The reactor ends."""
        del reason
        if not self._epoll.closed:
            self._epoll.close()
