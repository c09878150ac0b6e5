"""Signed requests over a socket: what Twisted's client sends is what was signed."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from dtfc.access.decisions import Policy
from dtfc.access.signatures import Message, PeerTerms, Proof, Secrets, authority_of, sign
from dtfc.disk import InlineDisk
from dtfc.errors import DtfcError
from dtfc.http.heads import Limits
from dtfc.peers.client import PlainAgent
from dtfc.peers.signing import Signer, SigningAgent
from dtfc.web.gate import Gate
from dtfc.web.site import Bounds, Site
from tests.support.live import LiveNode
from tests.support.waiting import until

reactor: Any = _reactor
SECRETS = Secrets((b"0123456789abcdef0123456789abcdef",))


class Answers(Resource):
    """Says of each request whether a peer made it, or why not."""

    isLeaf = True  # noqa: N815 -- Twisted's name

    def __init__(self, gate: Gate) -> None:
        Resource.__init__(self)
        self._gate = gate

    def render(self, request: Any) -> int:
        request.body.discard()
        try:
            self._gate.admit_peer(request)
        except DtfcError as error:
            request.answer(403, str(error).encode())
        else:
            request.answer(200, b"a peer")
        return NOT_DONE_YET


class Bench:
    """A node's gate behind a port, and a client that signs."""

    def __init__(self) -> None:
        self.gate = Gate(Policy(), now=reactor.seconds)
        self._site = Site(
            Answers(self.gate),
            reactor,
            Limits(),
            Bounds(),
            access_log=lambda _entry: None,
            disk=InlineDisk(),
        )
        self._port = reactor.listenTCP(0, self._site, interface="127.0.0.1")
        self.url = f"http://localhost:{self._port.getHost().port}"
        own = frozenset({authority_of(self.url)})
        self.gate.terms = PeerTerms(SECRETS, own=own)
        self.signer = Signer(SECRETS, "00112233445566ff", reactor)
        self._pool = HTTPConnectionPool(reactor)
        agent = SigningAgent(Agent(reactor, pool=self._pool), self.signer)
        self._client = HTTPClient(PlainAgent(agent, reactor))

    async def ask(self, method: str, path: str, **more: Any) -> str:
        response = await self._client.request(method, self.url + path, **more)
        return str(await response.text())

    async def close(self) -> None:
        await self._pool.closeCachedConnections()
        await self._port.stopListening()
        while self._site.channels:
            self._site.abort()
            await deferLater(reactor, 0)


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/", "/a%20b/c?x=%2F&y", "/" + "ab" * 64 + "/n.jpg", "/x?"])
async def test_what_is_sent_is_what_was_signed(bench: Bench, method: str, path: str) -> None:
    said = await bench.ask(method, path, headers={"Range": "bytes=1-"})

    assert said == ("" if method == "HEAD" else "a peer")


@pytest_twisted.ensureDeferred
async def test_with_a_body(bench: Bench) -> None:
    assert await bench.ask("POST", "/x", json={"a": 1}) == "a peer"
    assert await bench.ask("PUT", "/" + "ab" * 64, data=b"hello") == "a peer"


@pytest_twisted.ensureDeferred
async def test_with_another_secret(bench: Bench) -> None:
    bench.signer.secrets = Secrets((b"another secret of a decent length",))

    assert "a secret that this node does not have" in await bench.ask("PUT", "/x")


@pytest_twisted.ensureDeferred
async def test_with_none(bench: Bench) -> None:
    bench.signer.secrets = None

    assert "not signed" in await bench.ask("PUT", "/x")


KEY = b"0123456789abcdef0123456789abcdef"


def fields_for(
    path: str, body: bytes, authority: str, number: int, key: bytes = KEY
) -> dict[str, str]:
    """Sign a PUT by hand; a proxy says that it comes from elsewhere."""
    digest = base64.b64encode(hashlib.sha512(body).digest()).decode()
    fields = {"content-digest": [f"sha-512=:{digest}:"]}
    message = Message("PUT", path, None, fields, has_body=True)
    proof = Proof("00112233445566ff", number, int(time.time()))
    return {
        "Content_Digest": fields["content-digest"][0],
        "X_Forwarded_For": "192.0.2.7",
        **{name.replace("-", "_"): value for name, value in sign(key, message, authority, proof)},
    }


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_node_obeys_once_whichever_process_is_asked(
    live: Callable[..., LiveNode], tmp_path: Path, workers: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"# peers\n" + KEY + b"\n")
    secret.chmod(0o600)
    node = live("--workers", workers, "--peer-secret-file", str(secret))
    fields = fields_for("/a.txt", b"hello", f"127.0.0.1:{node.port}", 1)

    answers = [node.request("PUT", "/a.txt", b"hello", **fields)[0] for _ in range(8)]
    other = fields_for("/b.txt", b"hello", f"127.0.0.1:{node.port}", 2)
    tampered = node.request("PUT", "/b.txt", b"jello", **other)
    unsigned = node.request("PUT", "/c.txt", b"hello", X_Forwarded_For="192.0.2.7")

    assert answers == [201] + [401] * 7
    assert tampered[0] == 422
    assert unsigned[0] == 403


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_secret_is_changed_while_it_runs(
    live: Callable[..., LiveNode], tmp_path: Path, workers: str
) -> None:
    new = b"another secret of a decent length"
    secret = tmp_path / "secret"
    secret.write_bytes(KEY)
    secret.chmod(0o600)
    node = live("--workers", workers, "--peer-secret-file", str(secret))
    numbers = itertools.count()

    def put(key: bytes) -> int:
        authority = f"127.0.0.1:{node.port}"
        fields = fields_for("/a.txt", b"hello", authority, next(numbers), key)
        return node.request("PUT", "/a.txt", b"hello", **fields)[0]

    def reload(content: bytes, mode: int, said: str) -> None:
        secret.write_bytes(content)
        secret.chmod(mode)
        before = node.log().count(said)
        os.kill(node.pid, signal.SIGHUP)
        until(lambda: node.log().count(said) > before, node.log)

    def becomes(key: bytes, status: int) -> bool:
        """Each worker reloads in its own time: six in a row are enough of them."""
        row = 0
        for _ in range(200):
            row = row + 1 if put(key) == status else 0
            if row == 6:
                return True
        return False

    assert (put(KEY), put(new)) == (201, 401)
    reload(KEY + b"\n" + new, 0o644, "not reloaded: peer-secret-file")
    assert (put(KEY), put(new)) == (200, 401)
    reload(KEY + b"\n" + new, 0o600, "reloaded; changed")
    assert becomes(new, 200)
    assert becomes(KEY, 200)
    reload(new, 0o600, "reloaded; changed")
    assert becomes(KEY, 401)
    assert becomes(new, 200)


def test_a_secret_that_everybody_may_read_stops_the_start(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(KEY)
    secret.chmod(0o644)
    node = LiveNode(tmp_path / "node", ["--peer-secret-file", str(secret)])

    with pytest.raises(AssertionError, match="others may read or change it"):
        node.start()
