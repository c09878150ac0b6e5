"""Certificates that are read again."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from dtfc.daemon.listen import Listening
from dtfc.daemon.tls import TlsEndpoint, read_keys
from dtfc.errors import BadSetting
from dtfc.settings import load
from tests.support.programs import require_program

# Twisted 26.10 hands pyOpenSSL 26 objects of a kind that it means to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


def make_certificate(folder: Path, name: str) -> None:
    """Write key.pem and cert.pem for a host name."""
    command = [
        *(require_program("openssl"), "req", "-x509", "-newkey", "ec"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        *("-subj", f"/CN={name}"),
    ]
    subprocess.run(command, check=True, capture_output=True)


class Silent(Protocol):
    """Says nothing, and tells the factory of its end."""

    def connectionLost(self, reason: Any = None) -> None:  # noqa: ARG002, N802 - Twisted's
        factory: Any = self.factory
        factory.ended.callback(None)


def listening(folder: Path) -> Listening:
    where = f"ssl:0:privateKey={folder}/key.pem:certKey={folder}/cert.pem:interface=127.0.0.1"
    factory = Factory.forProtocol(Silent)
    factory.noisy = False
    told: list[IListeningPort] = []
    service = Listening(
        load({"listen": [where]}, {"HOME": "/"}, "/"), reactor, factory, told.append
    )
    service.privilegedStartService()
    return service


async def certificate_of(service: Listening) -> bytes:
    """Return the certificate that a new connection is shown."""
    address: Any = service.ports[0].getHost()
    number = address.port

    def talk() -> Any:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", number), timeout=10) as plain,
            context.wrap_socket(plain) as secret,
        ):
            return secret.getpeercert(binary_form=True)

    factory: Any = service._factory
    factory.ended = Deferred()
    shown = bytes(await deferToThread(talk))
    await factory.ended
    return shown


def on_disk(folder: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((folder / "cert.pem").read_text())


@pytest_twisted.ensureDeferred
async def test_a_new_certificate_is_used_from_the_reload_on(tmp_path: Path) -> None:
    make_certificate(tmp_path, "old.example")
    service = listening(tmp_path)
    old = on_disk(tmp_path)
    assert await certificate_of(service) == old
    make_certificate(tmp_path, "new.example")
    use = service.reread_certificates()
    assert await certificate_of(service) == old
    use()
    assert await certificate_of(service) == on_disk(tmp_path) != old
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_broken_certificate_leaves_the_old_one(tmp_path: Path) -> None:
    make_certificate(tmp_path, "old.example")
    service = listening(tmp_path)
    old = on_disk(tmp_path)
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(BadSetting, match="--listen"):
        service.reread_certificates()
    assert await certificate_of(service) == old
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_key_of_another_certificate_is_seen_at_once(tmp_path: Path) -> None:
    make_certificate(tmp_path, "old.example")
    service = listening(tmp_path)
    key = (tmp_path / "key.pem").read_text()
    make_certificate(tmp_path, "new.example")
    (tmp_path / "key.pem").write_text(key)
    with pytest.raises(BadSetting, match="--listen"):
        service.reread_certificates()
    await service.stopService()


def test_keys_that_go_to_another_process_make_the_same_context(tmp_path: Path) -> None:
    make_certificate(tmp_path, "handed.example")
    odd = tmp_path / "a:b=c\\d"
    odd.mkdir()
    for name in ("key.pem", "cert.pem"):
        (tmp_path / name).rename(odd / name)
    (odd / "chain.pem").write_text("a comment\n" + (odd / "cert.pem").read_text() * 2)
    escaped = str(odd).replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")
    where = f"ssl:0:privateKey={escaped}/key.pem:certKey={escaped}/cert.pem"
    endpoint = TlsEndpoint(f"{where}:extraCertChain={escaped}/chain.pem", None, keep_keys=True)
    assert endpoint.keys == read_keys(f"{where}:extraCertChain={escaped}/chain.pem")
    assert endpoint.keys is not None
    context = endpoint.keys.context()
    assert context.certificate is not None
    subject = context.certificate.to_cryptography().subject
    assert subject.rfc4514_string() == "CN=handed.example"
    assert len(context.extraCertChain) == 2
    assert context.getContext() is not None


def test_keys_are_not_kept_where_nobody_needs_them(tmp_path: Path) -> None:
    make_certificate(tmp_path, "x")
    where = f"ssl:0:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    assert TlsEndpoint(where, None).keys is None


def test_keys_read_again_are_those_that_are_handed_on(tmp_path: Path) -> None:
    make_certificate(tmp_path, "old.example")
    where = f"ssl:0:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    endpoint = TlsEndpoint(where, None, keep_keys=True)
    old = endpoint.keys
    make_certificate(tmp_path, "new.example")
    use = endpoint.reread()
    assert endpoint.keys is old
    use()
    assert endpoint.keys == read_keys(where) != old
