"""Whose certificates a client believes, and which one it shows."""

from __future__ import annotations

from dataclasses import dataclass

from OpenSSL import SSL, crypto
from twisted.web.iweb import IPolicyForHTTPS

from dtfc.client.failures import LocalTrouble
from dtfc.client.partfile import in_words
from dtfc.peers.certificates import OwnCertificate, PeerPolicy

_LARGEST = 1024 * 1024
_BEGINS = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates of a client.

    Args:
        authorities: PEM, believed beside those of the platform.
        own: what is shown to nodes that ask for it; None for nothing.
    """

    authorities: bytes = b""
    own: OwnCertificate | None = None

    def policy(self) -> IPolicyForHTTPS:
        """Return it as Twisted has it.

        Raises:
            LocalTrouble: a certificate or key makes no sense.
        """
        try:
            return PeerPolicy(self.authorities, self.own)
        except (SSL.Error, crypto.Error, ValueError) as error:
            raise LocalTrouble("the client's certificate and key cannot be used") from error


def read_tls(authorities: str | None, certificate: str | None, key: str | None) -> Tls | None:
    """Read certificates (blocks).

    Args:
        authorities: path of a bundle, PEM; None for none beside the platform's.
        certificate: path of the client's own, PEM, perhaps with a chain behind it.
        key: path of its key, PEM.

    Returns:
        None if no path is given.

    Raises:
        LocalTrouble: a file cannot be read, or makes no sense.
    """
    if authorities is None and certificate is None and key is None:
        return None
    if (certificate is None) != (key is None):
        raise LocalTrouble("a client's certificate and its key go together")
    bundle = b"" if authorities is None else _read(authorities)
    if authorities is not None and _BEGINS not in bundle:
        raise LocalTrouble(f"{authorities}: holds no certificate (PEM)")
    own = None
    if certificate is not None and key is not None:
        own = OwnCertificate(_read(certificate), _read(key))
    tls = Tls(bundle, own)
    tls.policy()
    return tls


def _read(path: str) -> bytes:
    with in_words(path), open(path, "rb") as file:
        return file.read(_LARGEST)
