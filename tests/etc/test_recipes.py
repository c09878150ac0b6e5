"""The recipes for proxies and the firewall, run: real programs before real nodes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.live import CHECKOUT, LiveNode, free_port
from tests.support.programs import require_program
from tests.support.waiting import until

ETC = CHECKOUT / "etc"
#: An address that is nobody's (RFC 5737), and is this machine's while the tests run.
FAR = "192.0.2.77"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may add addresses")


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of files.example, its key, and both in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    run(
        *(require_program("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=files.example"),
        *("-addext", "subjectAltName=DNS:files.example"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    )
    both = (folder / "cert.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "both.pem").write_text(both)
    return folder


@pytest.fixture
def far_address() -> Iterator[str]:
    """Another address, that is not loopback, to come from."""
    ip = require_program("ip")
    run(ip, "address", "add", f"{FAR}/32", "dev", "lo", check=False)
    yield FAR
    run(ip, "address", "del", f"{FAR}/32", "dev", "lo", check=False)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[LiveNode]]:
    """Three nodes that are each other's peers, behind a proxy on this machine."""
    peers = tmp_path / "peers"
    found = [
        LiveNode(
            tmp_path / f"node{number}",
            [
                *("--peerlist", str(peers), "--trusted-proxies", "127.0.0.1"),
                *("--interface", "127.0.0.1", "--peerlist-poll", "100ms"),
            ],
        )
        for number in range(3)
    ]
    peers.write_text("".join(f"{node.url}/\n" for node in found))
    for node in found:
        node.flags += ["--me", node.url]
        node.start()
    yield found
    for node in found:
        node.end(signal.SIGKILL)
    assert not any("Traceback" in node.log() for node in found)


class Proxy:
    """A proxy with one of our recipes, on ports of its own."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        with (folder / "proxy.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=subprocess.STDOUT
            )

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def nginx(folder: Path, nodes: list[LiveNode], keys: Path, clear: int, secure: int) -> list[str]:
    ours = (ETC / "nginx.conf").read_text()
    ours = ours.replace("/etc/ssl/certs/files.example.pem", str(keys / "cert.pem"))
    ours = ours.replace("/etc/ssl/private/files.example.key", str(keys / "key.pem"))
    # IPv4 alone: a container may have nothing else.
    ours = re.sub(r"\n +listen \[::\].*", "", ours)
    ours = ours.replace("listen 80;", f"listen {clear};").replace(
        "listen 443 ", f"listen {secure} "
    )
    for number, node in enumerate(nodes):
        ours = ours.replace(f"127.0.0.1:808{number + 1}", f"127.0.0.1:{node.port}")
    (folder / "ours.conf").write_text(ours)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/ours.conf; }}\n"
    )
    return [
        *(require_program("nginx"), "-e", "stderr"),
        *("-p", str(folder), "-c", str(folder / "nginx.conf")),
    ]


def haproxy(folder: Path, nodes: list[LiveNode], keys: Path, clear: int, secure: int) -> list[str]:
    ours = (ETC / "haproxy.cfg").read_text()
    ours = ours.replace("/etc/ssl/private/files.example.pem", str(keys / "both.pem"))
    ours = re.sub(r"\n +bind :::.*", "", ours)
    ours = ours.replace("bind :80\n", f"bind :{clear}\n").replace("bind :443 ", f"bind :{secure} ")
    for number, node in enumerate(nodes):
        ours = ours.replace(f"127.0.0.1:808{number + 1}", f"127.0.0.1:{node.port}")
    (folder / "haproxy.cfg").write_text(ours)
    return [require_program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


RECIPES: dict[str, Callable[[Path, list[LiveNode], Path, int, int], list[str]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
}


class Client:
    """curl, from another address, through a proxy."""

    def __init__(self, keys: Path, clear: int, secure: int) -> None:
        self._keys = keys
        self.clear = clear
        self.secure = secure

    def ask(self, path: str, *more: str, scheme: str = "https") -> tuple[int, bytes]:
        port = self.secure if scheme == "https" else self.clear
        command = [
            *(require_program("curl"), "-sS", "--interface", FAR, "--max-time", "30"),
            *("--cacert", str(self._keys / "cert.pem")),
            *("--connect-to", f"files.example:{port}:127.0.0.1:{port}"),
            *("-w", "\n%{http_code}", *more, f"{scheme}://files.example:{port}{path}"),
        ]
        told = subprocess.run(command, capture_output=True, timeout=60, check=False)
        body, _, status = told.stdout.rpartition(b"\n")
        assert status.isdigit(), told.stderr
        return int(status), body


@AS_ROOT
@pytest.mark.usefixtures("far_address")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_proxy_before_three_nodes(
    tmp_path: Path, recipe: str, nodes: list[LiveNode], certificate: Path
) -> None:
    clear, secure = free_port(), free_port()
    folder = tmp_path / recipe
    folder.mkdir()
    command = RECIPES[recipe](folder, nodes, certificate, clear, secure)
    tokens = tmp_path / "tokens"
    made = run(
        *(sys.executable, "-m", "dtfc.cli.main", "token", "new", "camera", "put,delete"),
        *("--append", str(tokens)),
    )
    token = made.stdout.split()[0]
    for node in nodes:
        node.end()
        node.flags += ["--tokens", str(tokens)]
        node.start()
    proxy = Proxy(folder, command)
    try:
        client = Client(certificate, clear, secure)
        until(
            lambda: _is_open(secure) and client.ask("/readyz")[0] == 200,
            (folder / "proxy.log").read_text,
            seconds=10,
        )
        _use(tmp_path, client, nodes, token)
    finally:
        proxy.stop()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _use(folder: Path, client: Client, nodes: list[LiveNode], token: str) -> None:
    photo = folder / "photo"
    photo.write_bytes(os.urandom(20_000_000))
    bearer = ("-H", f"Authorization: Bearer {token}")
    # Nobody writes here just because the proxy is this machine's.
    assert client.ask("/photo.jpg", "-T", str(photo))[0] == 401
    forged = ("-H", "X-Forwarded-For: 127.0.0.1", "-H", "Forwarded: for=127.0.0.1")
    assert client.ask("/photo.jpg", "-T", str(photo), *forged)[0] == 401
    status, told = client.ask("/photo.jpg", "-T", str(photo), *bearer)
    assert status == 201
    digest = json.loads(told)["sha512"]

    for _ in range(6):
        status, body = client.ask(f"/{digest}")
        assert (status, body == photo.read_bytes()) == (200, True)
    assert client.ask(f"/{digest}", "-r", "100-109")[1] == photo.read_bytes()[100:110]
    # Each had its turn, and logs who asked: not the proxy, nor what a client says.
    for node in nodes:
        lines = _asked(node, digest)
        assert all(f" {FAR} - - " in line for line in lines)

    status, _ = client.ask(f"/{digest}?a=b", scheme="http")
    assert status == 308
    place = client.ask(f"/{digest}", "-o", "/dev/null", "-D", "-", scheme="http")[1]
    assert f"ocation: https://files.example/{digest}" in place.decode()

    nodes[0].end(signal.SIGKILL)
    for _ in range(6):
        assert client.ask(f"/{digest}", "-r", "0-9")[0] == 206
    # The one that is down would be tried first for some of these.
    assert client.ask(f"/{digest}", "-X", "DELETE", *bearer)[0] == 200


def _asked(node: LiveNode, digest: str) -> list[str]:
    """Return the lines of the access log, which are gathered, once there are any."""

    def lines() -> list[str]:
        return [each for each in node.log().splitlines() if f'"GET /{digest} ' in each]

    until(lines, node.log, seconds=10)
    return lines()


NETWORK = "198.51.100"
SERVER = """
import socket, time
listening = socket.create_server(("0.0.0.0", 8080), backlog=200)
print("listening", flush=True)
held = []
while True:
    held.append(listening.accept())
"""
CLIENT = """
import socket, sys
held, refused = [], 0
for _ in range(60):
    try:
        held.append(socket.create_connection((sys.argv[1], 8080), 2, (sys.argv[2], 0)))
    except OSError:
        refused += 1
print(len(held), refused)
"""


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two hosts with a cable between them: network namespaces, the first behind our rules."""
    ip = require_program("ip")
    names = f"dtfc-a-{os.getpid()}", f"dtfc-b-{os.getpid()}"
    for name in names:
        run(ip, "netns", "add", name)
    try:
        run(ip, "link", "add", "dtfc0", "netns", names[0], "type", "veth", "peer", "name", "dtfc1",
            "netns", names[1])  # fmt: skip
        for number, (name, far) in enumerate(zip(names, ("1", "2"), strict=True)):
            for address in (f"{NETWORK}.{far}/24", f"10.99.0.{far}/24"):
                run(ip, "-n", name, "address", "add", address, "dev", f"dtfc{number}")
            run(ip, "-n", name, "link", "set", f"dtfc{number}", "up")
        yield names
    finally:
        for name in names:
            run(ip, "netns", "del", name)


@AS_ROOT
def test_the_firewall_lets_so_many_in(two_hosts: tuple[str, str]) -> None:
    nft, ip = require_program("nft"), require_program("ip")
    server, client = two_hosts
    run(ip, "netns", "exec", server, nft, "--file", str(ETC / "nftables.conf"))
    listening = subprocess.Popen(
        [ip, "netns", "exec", server, sys.executable, "-c", SERVER], stdout=subprocess.PIPE
    )
    try:
        assert listening.stdout is not None
        assert listening.stdout.readline() == b"listening\n"

        def connect(own: str, there: str) -> str:
            command = (ip, "netns", "exec", client, sys.executable, "-c", CLIENT, there, own)
            return run(*command).stdout.strip()

        # 50 of a stranger at once, and as many as it wants of a friend.
        assert connect(f"{NETWORK}.2", f"{NETWORK}.1") == "50 10"
        assert connect("10.99.0.2", "10.99.0.1") == "60 0"
    finally:
        listening.kill()
        listening.communicate()
