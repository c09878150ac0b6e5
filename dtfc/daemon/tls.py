"""``ssl:`` endpoints whose key and certificate can be read again while they listen.

Twisted reads them once, when the endpoint string is parsed. Its parser ends in
one public call, ``listenSSL`` of the reactor that it was given: what is given to
it here takes that call, keeps the address, and puts a context of our own between.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    DiffieHellmanParameters,
    PrivateCertificate,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from dtfc.peers.certificates import ask_for_certificates, read_authorities

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.+?\n-----END CERTIFICATE-----", re.DOTALL)


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
class CurrentContext:
    """Hands each new connection the context that is in force.

    Args:
        inner: makes it; may be replaced.
    """

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
        keep_keys: whether to keep, in :attr:`keys`, what the files say, for
            another process.
        peer_ca: file with the authorities by whose certificates peers are known;
            None for none.

    Raises:
        Exception: of many kinds: whatever is wrong with the string or the files.
    """

    def __init__(
        self,
        description: str,
        reactor: Any,
        *,
        keep_keys: bool = False,
        peer_ca: str | None = None,
    ) -> None:
        self._description = description
        self._reactor = reactor
        self._peer_ca = peer_ca
        self._parsed = _parse(description)
        authorities = read_authorities(peer_ca)
        _ask(self._parsed.context, authorities)
        self.keys = read_keys(description, authorities) if keep_keys else None
        self._context = CurrentContext(self._parsed.context)

    def wrap(self, factory: IProtocolFactory) -> IProtocolFactory:
        """Return a factory that speaks TLS before the given one hears anything."""
        wrapped: IProtocolFactory = TLSMemoryBIOFactory(self._context, False, factory)
        return wrapped

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
        authorities = read_authorities(self._peer_ca)
        _ask(fresh, authorities)
        keys = read_keys(self._description, authorities) if self.keys is not None else None

        def use() -> None:
            self._context.inner = fresh
            self.keys = keys

        return use


def _ask(context: IOpenSSLContextFactory, authorities: bytes) -> None:
    if authorities:
        ask_for_certificates(context.getContext(), authorities)


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


@dataclass(frozen=True, slots=True)
class Keys:
    """What the files of an ``ssl:`` endpoint say, for a process that may not read them.

    Args:
        key: private key, PEM.
        certificate: PEM.
        chain: further certificates, PEM; empty without any.
        dh_parameters: PEM; empty without any.
        method: a constant of ``OpenSSL.SSL``; empty for the usual one.
        authorities: by whose certificates peers are known, PEM; empty without any.
    """

    key: str
    certificate: str
    chain: str = ""
    dh_parameters: str = ""
    method: str = ""
    authorities: str = ""

    def context(self) -> CertificateOptions:
        """Return the context that Twisted's own endpoint would make of the files.

        Raises:
            Exception: of many kinds: whatever is wrong with them.
        """
        pair = PrivateCertificate.loadPEM(f"{self.certificate}\n{self.key}")
        chain = [Certificate.loadPEM(pem).original for pem in _CERTIFICATE.findall(self.chain)]
        more: dict[str, Any] = {"method": getattr(SSL, self.method)} if self.method else {}
        if self.dh_parameters:
            more["dhParameters"] = DiffieHellmanParameters(self.dh_parameters.encode("ascii"))
        options = CertificateOptions(
            privateKey=pair.privateKey.original,
            certificate=pair.original,
            extraCertChain=chain or None,
            **more,
        )
        _ask(options, self.authorities.encode("ascii"))
        return options


def read_keys(description: str, authorities: bytes = b"") -> Keys:
    """Read the files that an ``ssl:`` endpoint string names.

    Raises:
        OSError, ValueError: one of them cannot be read.
    """
    named = dict(part for part in _parts(description) if len(part) == 2)
    key = named.get("privateKey", "server.pem")

    def content(path: str | None) -> str:
        return Path(path).read_text("ascii") if path else ""

    return Keys(
        key=content(key),
        certificate=content(named.get("certKey", key)),
        chain=content(named.get("extraCertChain")),
        dh_parameters=content(named.get("dhParameters")),
        method=named.get("sslmethod", ""),
        authorities=authorities.decode("ascii"),
    )


def _parts(description: str) -> list[list[str]]:
    """Take an endpoint string apart: at colons, and each part at its first equals sign.

    A backslash takes the next character for what it is.
    """
    parts = [[""]]
    characters = iter(description)
    for character in characters:
        if character == "\\":
            parts[-1][-1] += next(characters, "")
        elif character == ":":
            parts.append([""])
        elif character == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        else:
            parts[-1][-1] += character
    return parts
