"""Nodes that know each other by certificates: real daemons, real handshakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commanding import Command
from tests.support.live import LiveNode, free_port
from tests.support.programs import require_program
from tests.support.waiting import until

NewNode = Callable[..., LiveNode]


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self.name = name
        self.certificate = self._folder / "ca.pem"
        self._openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", str(self._folder / "ca.key"), "-out", str(self.certificate)),
        )

    def sign(self, name: str, days: int = 2) -> tuple[Path, Path]:
        """Return a certificate for 127.0.0.1, and its key."""
        key, asked, signed = (self._folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = self._folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl(
            *("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(asked))
        )
        self._openssl(
            *("x509", "-req", "-in", str(asked), "-CA", str(self.certificate), "-CAkey"),
            *(str(self._folder / "ca.key"), "-CAcreateserial", "-days", str(days)),
            *("-extfile", str(extensions), "-out", str(signed)),
        )
        return signed, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run([require_program("openssl"), *arguments], check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "peers")


def listening(authority: Authority, name: str) -> tuple[int, list[str]]:
    """Return a port for TLS, and the flags that listen there and know peers."""
    certificate, key = authority.sign(name)
    port = free_port()
    endpoint = f"ssl:{port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    flags = ["--listen", endpoint, "--peer-ca", str(authority.certificate)]
    return port, [*flags, "--peer-cert", str(certificate), "--peer-key", str(key)]


def told(port: int, authority: Authority, path: str, *more: str) -> str:
    """Ask with curl; return the status, or what curl says went wrong."""
    done = subprocess.run(
        [
            *(require_program("curl"), "-sS", "-o", "/dev/null", "-w", "%{http_code}"),
            *("--cacert", str(authority.certificate), *more, f"https://127.0.0.1:{port}{path}"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout if done.returncode == 0 else f"curl {done.returncode}"


COMPARE = ("-H", "Content-Type: application/json", "-d", '{"version": 1}')


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_is_a_peer(live: NewNode, authority: Authority, tmp_path: Path, workers: str) -> None:
    port, flags = listening(authority, f"node{workers}")
    live(*flags, "--workers", workers)
    other = Authority(tmp_path, "others")
    good = authority.sign("client")
    old = authority.sign("old", days=0)
    strange = other.sign("stranger")

    def compare(pair: tuple[Path, Path] | None, *more: str) -> str:
        shown = ("--cert", str(pair[0]), "--key", str(pair[1])) if pair else ()
        return told(port, authority, "/deletions/compare", *shown, *more, *COMPARE)

    # 400: it was heard, and makes no sense. 403: it was not heard. curl 56: no connection.
    assert compare(good) == "400"
    assert compare(None) == "403"
    assert compare(good, "-H", "X-Forwarded-For: 192.0.2.1") == "403"
    assert compare(good, "-H", "Via: 1.1 proxy") == "403"
    assert compare(strange).startswith("curl ")
    # It is good for the second in which it was made.
    until(lambda: compare(old).startswith("curl "))
    # Who shows none is served as anybody is.
    assert told(port, authority, "/livez") == "200"


def test_copies_without_a_secret(live: NewNode, authority: Authority, tmp_path: Path) -> None:
    peers = tmp_path / "peers"
    ports, nodes = [], []
    for name in ("first", "second"):
        port, flags = listening(authority, name)
        ports.append(port)
        me = f"https://127.0.0.1:{port}"
        nodes.append(live(*flags, "--peerlist", str(peers), "--me", me, begin=False))
    peers.write_text("".join(f"https://127.0.0.1:{port}/\n" for port in ports))
    first, second = nodes
    first.flags += ["--replicas", "2", "--write-quorum", "2"]
    # Nothing that comes from this machine is let in because of that.
    second.flags += ["--trusted-proxies", "127.0.0.1"]
    second.start()
    first.start()
    content = os.urandom(200_000)
    status, _, body = first.request("PUT", "/photo.jpg", content)
    assert status == 201, body
    digest = json.loads(body)["sha512"]
    assert second.request("GET", f"/{digest}/nopeerload")[2] == content
    assert first.request("DELETE", f"/{digest}/allpeers")[0] == 202
    until(lambda: second.request("GET", f"/{digest}/nopeerload")[0] == 404, second.log)


def test_another_authority_after_a_signal(
    live: NewNode, authority: Authority, tmp_path: Path
) -> None:
    port, flags = listening(authority, "signalled")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate.read_bytes())
    flags[flags.index("--peer-ca") + 1] = str(bundle)
    node = live(*flags)
    other = Authority(tmp_path, "newer")
    pair = other.sign("newcomer")
    shown = ("--cert", str(pair[0]), "--key", str(pair[1]))
    assert told(port, authority, "/deletions/compare", *shown, *COMPARE).startswith("curl ")
    bundle.write_bytes(authority.certificate.read_bytes() + other.certificate.read_bytes())
    os.kill(node.pid, signal.SIGHUP)
    until(
        lambda: told(port, authority, "/deletions/compare", *shown, *COMPARE) == "400",
        node.log,
        seconds=5,
    )


@pytest.mark.parametrize("wrong", ["peer-ca", "peer-key", "half"])
def test_files_that_cannot_be_used_are_named(
    live: NewNode, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    _, flags = listening(authority, f"wrong-{wrong}")
    if wrong == "half":
        flags = flags[: flags.index("--peer-cert")] + flags[flags.index("--peer-key") :]
    else:
        nothing = tmp_path / "nothing.pem"
        nothing.write_text("nothing")
        nothing.chmod(0o600)
        flags[flags.index(f"--{wrong}") + 1] = str(nothing)
    node = live(*flags, begin=False)
    with pytest.raises(AssertionError, match="peer-cert" if wrong == "half" else wrong):
        node.start()


def test_the_command_believes_an_authority_and_shows_a_certificate(
    live: NewNode, authority: Authority, tmp_path: Path
) -> None:
    port, flags = listening(authority, "files")
    live(*flags)
    certificate, key = authority.sign("user")
    stranger = Authority(tmp_path, "others").sign("stranger")
    command = Command(tmp_path / "user", DTFC_NODE=f"https://127.0.0.1:{port}")
    believing = ("--cacert", str(authority.certificate))

    codes = [
        command.run("status", *believing).returncode,
        command.run("status", *believing, "--cert", str(certificate), "--key", str(key)).returncode,
        command.run("status").returncode,
        command.run(
            *("status", *believing, "--cert", str(stranger[0]), "--key", str(stranger[1]))
        ).returncode,
    ]

    assert codes == [0, 0, 1, 1]
