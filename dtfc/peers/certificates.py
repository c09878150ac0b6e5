"""Certificates by which nodes know each other: mutual TLS, instead of signatures or beside them.

Rules of this file: whoever has a certificate of ``--peer-ca`` is a peer; so that
authority signs for peers and nobody else. A certificate is looked at again with
each request, for connections outlive certificates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL, crypto
from OpenSSL.crypto import X509
from twisted.internet._sslverify import IOpenSSLTrustRoot  # nothing public has it
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
)
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from dtfc.errors import BadSetting
from dtfc.guarded import WRITABLE, read_guarded

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n.+?-----END CERTIFICATE-----", re.DOTALL)
_LARGEST = 1024 * 1024
_SESSIONS = b"dtfc peers"


def read_authorities(path: str | None) -> bytes:
    """Return the certificates of a bundle, PEM; empty where there is none (blocks).

    Raises:
        BadSetting: it cannot be read, is open to others, or holds no certificate.
    """
    if path is None:
        return b""
    content = read_guarded("peer-ca", path, _LARGEST, WRITABLE)
    found = _PEM.findall(content)
    try:
        for each in found:
            Certificate.loadPEM(each)
    except (SSL.Error, crypto.Error) as error:
        raise BadSetting("peer-ca", f"{path}: a certificate in it cannot be read") from error
    if not found:
        raise BadSetting("peer-ca", f"{path}: holds no certificate (PEM)")
    return b"\n".join(found)


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """What this node shows to peers.

    Args:
        certificate: PEM, perhaps with a chain behind it.
        key: PEM; in no repr.
    """

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "<OwnCertificate>"

    def loaded(self) -> PrivateCertificate:
        """Return it, as Twisted has it."""
        found: PrivateCertificate = PrivateCertificate.loadPEM(self.certificate + b"\n" + self.key)
        return found


def read_own(certificate: str | None, key: str | None) -> OwnCertificate | None:
    """Return this node's certificate and key; None where it has none (blocks).

    Raises:
        BadSetting: one of the two is missing, open to others, or they do not
            belong together.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "peer-cert" if certificate is None else "peer-key"
        raise BadSetting(missing, "--peer-cert and --peer-key go together")
    own = OwnCertificate(
        read_guarded("peer-cert", certificate, _LARGEST, WRITABLE),
        read_guarded("peer-key", key, _LARGEST),
    )
    try:
        options = own.loaded().options()
        options.getContext().check_privatekey()
    except (SSL.Error, crypto.Error, ValueError) as error:
        raise BadSetting("peer-key", f"{key}: does not go with {certificate}") from error
    return own


def ask_for_certificates(context: SSL.Context, authorities: bytes) -> None:
    """Let a server's context ask clients for a certificate, and verify it.

    Who shows none is anybody; who shows one of another authority, or an old one, gets
    no connection.

    Args:
        context: of an ``ssl:`` endpoint.
        authorities: PEM.
    """
    trusted = [Certificate.loadPEM(each).original for each in _PEM.findall(authorities)]
    store = context.get_cert_store()
    if store is None:
        raise ValueError("this context keeps no certificates")
    for each in trusted:
        store.add_cert(each)
    context.set_client_ca_list([each.get_subject() for each in trusted])
    context.set_verify(SSL.VERIFY_PEER, lambda _c, _x, _errno, _depth, fine: bool(fine))
    # A session that is resumed would skip the look at the certificate.
    context.set_session_id(_SESSIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)


def shows_certificate(transport: Any) -> bool:
    """Whether whoever is at the other end has shown a certificate that is good now.

    The handshake has verified it; here only its time is looked at again.
    """
    shown = getattr(transport, "getPeerCertificate", None)
    certificate = shown() if shown is not None else None
    return isinstance(certificate, X509) and not certificate.has_expired()


@implementer(IOpenSSLTrustRoot)
class _Both:
    """What the platform trusts, and the peers' own authorities."""

    def __init__(self, authorities: bytes) -> None:
        self._authorities = authorities

    def _addCACertsToContext(self, context: SSL.Context) -> None:  # noqa: N802 - Twisted's name
        platformTrust()._addCACertsToContext(context)  # noqa: SLF001 - it is the interface
        store = context.get_cert_store()
        for each in _PEM.findall(self._authorities):
            if store is not None:
                store.add_cert(Certificate.loadPEM(each).original)


@implementer(IPolicyForHTTPS)
class PeerPolicy:
    """Whose certificates to believe of https peers, and which to show them.

    Args:
        authorities: PEM, trusted beside the platform's.
        own: what to show; None for nothing.
    """

    def __init__(self, authorities: bytes, own: OwnCertificate | None) -> None:
        self._trust = _Both(authorities)
        self._own = own.loaded() if own is not None else None

    def creatorForNetloc(  # noqa: N802 - Twisted's name
        self, hostname: bytes, port: int
    ) -> IOpenSSLClientConnectionCreator:
        """Return what makes connections to one host."""
        del port
        return optionsForClientTLS(
            hostname.decode("ascii"), trustRoot=self._trust, clientCertificate=self._own
        )
