"""``ssl:`` endpoints whose key and certificate can be read again while they listen.

Twisted reads them once, when the endpoint string is parsed. Its parser ends in
one public call, ``listenSSL`` of the reactor that it was given: what is given to
it here takes that call, keeps the address, and puts a context of our own between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What an ``ssl:`` endpoint string says.

    Args:
        port: number of the TCP port.
        context: from the key and certificate as they are on disk now.
        where: the keyword arguments of ``listenSSL`` (backlog, interface).
    """

    port: int
    context: IOpenSSLContextFactory
    where: dict[str, Any]


class _Listener:
    """Stands where the parser expects a reactor, and keeps what it was asked to do."""

    parsed: _Parsed | None = None

    def listenSSL(  # noqa: N802 - Twisted's name
        self,
        port: int,
        factory: IProtocolFactory,  # noqa: ARG002 - Twisted's signature
        contextFactory: IOpenSSLContextFactory,  # noqa: N803 - Twisted's name
        **where: Any,
    ) -> None:
        """Keep the arguments."""
        # A key that does not belong to the certificate shows here, not at the first client.
        contextFactory.getContext()
        self.parsed = _Parsed(port, contextFactory, where)


@implementer(IOpenSSLContextFactory)
class _CurrentContext:
    """Hands each new connection the context that is in force."""

    def __init__(self, inner: IOpenSSLContextFactory) -> None:
        self.inner = inner

    def getContext(self) -> SSL.Context:  # noqa: N802 - Twisted's name
        """Return the context for one more connection."""
        return self.inner.getContext()


class TlsEndpoint:
    """Listens as an ``ssl:`` endpoint string says.

    Args:
        description: the endpoint string.
        reactor: opens the port.

    Raises:
        Exception: of many kinds: whatever is wrong with the string or the files.
    """

    def __init__(self, description: str, reactor: Any) -> None:
        self._description = description
        self._reactor = reactor
        self._parsed = _parse(description)
        self._context = _CurrentContext(self._parsed.context)

    def listen(self, factory: IProtocolFactory) -> IListeningPort:
        """Open the port."""
        port: IListeningPort = self._reactor.listenSSL(
            self._parsed.port, factory, self._context, **self._parsed.where
        )
        return port

    def reread(self) -> Callable[[], None]:
        """Read key and certificate again; what is returned puts them in force.

        Raises:
            Exception: of many kinds; nothing has changed then.
        """
        fresh = _parse(self._description).context

        def use() -> None:
            self._context.inner = fresh

        return use


def _parse(description: str) -> _Parsed:
    listener = _Listener()
    outcomes: list[object] = []
    serverFromString(listener, description).listen(Factory()).addBoth(outcomes.append)
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            outcome.raiseException()
    if listener.parsed is None:
        raise ValueError(f"{description!r} is no ssl: endpoint")
    return listener.parsed
