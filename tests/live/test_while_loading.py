"""A client is served while its blob is loaded, and never to the end with a wrong byte."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.store.chunkmap import ChunkMap
from tests.support.live import MIB, LiveNode

Live = Callable[..., LiveNode]

CONTENT = os.urandom(6 * MIB + 4321)
DIGEST = hashlib.sha512(CONTENT).hexdigest()
MAP = ChunkMap(
    Digest.of(CONTENT),
    len(CONTENT),
    b"".join(hashlib.sha256(CONTENT[at : at + MIB]).digest() for at in range(0, len(CONTENT), MIB)),
).content()


class Peer:
    """A peer that sends what it is given, a piece at a time.

    Args:
        content: what it claims to be the blob.
        holds_at: bytes after which it waits for :attr:`go_on`; None for none.
        chunk_map: what it says when it is asked for that.
    """

    def __init__(self, content: bytes, holds_at: int | None = None, chunk_map: bytes = b"") -> None:
        peer = self
        self.sent = 0
        self.go_on = threading.Event()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                start, stop = 0, len(content)
                if self.path.endswith("/chunks"):
                    self.send_response(200 if chunk_map else 404)
                    self.send_header("Content-Length", str(len(chunk_map)))
                    self.end_headers()
                    self.wfile.write(chunk_map)
                    return
                wanted = self.headers.get("Range")
                if wanted is not None:
                    first, _, last = wanted.removeprefix("bytes=").partition("-")
                    start, stop = int(first), int(last) + 1 if last else stop
                self.send_response(206 if wanted else 200)
                if wanted:
                    span = f"bytes {start}-{stop - 1}/{len(content)}"
                    self.send_header("Content-Range", span)
                self.send_header("Content-Length", str(stop - start))
                self.end_headers()
                for at in range(start, stop, MIB // 2):
                    piece = content[at : min(stop, at + MIB // 2)]
                    if at == holds_at and not peer.go_on.wait(30):
                        return
                    try:
                        self.wfile.write(piece)
                    except OSError:
                        return
                    peer.sent += len(piece)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Keep peers, and end them."""
    made: list[Peer] = []
    yield made
    for each in made:
        each.close()


def node_with(live: Live, tmp_path: Path, peers: list[Peer]) -> LiveNode:
    listed = tmp_path / "peers"
    listed.write_text("".join(f"{each.url}\n" for each in peers))
    node = live(begin=False)
    node.flags += ["--peerlist", str(listed)]
    node.start()
    return node


@contextmanager
def asking(
    node: LiveNode, path: str = f"/{DIGEST}", **fields: str
) -> Iterator[http.client.HTTPResponse]:
    """Ask for the blob."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    try:
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def test_the_first_byte_does_not_wait_for_the_last(
    live: Live, tmp_path: Path, peers: list[Peer]
) -> None:
    peers.append(Peer(CONTENT, 3 * MIB))
    node = node_with(live, tmp_path, peers)
    with asking(node) as response:
        first = response.read(MIB)
        assert peers[0].sent <= 3 * MIB
        peers[0].go_on.set()
        assert hashlib.sha512(first + response.read()).hexdigest() == DIGEST


def test_a_range_of_what_has_come_does_not_wait_for_the_rest(
    live: Live, tmp_path: Path, peers: list[Peer]
) -> None:
    peers.append(Peer(CONTENT, 3 * MIB, MAP))
    node = node_with(live, tmp_path, peers)
    with asking(node, Range="bytes=1000-1999") as response:
        assert response.status == 206
        assert response.read() == CONTENT[1000:2000]
    assert peers[0].sent <= 3 * MIB


def test_the_last_byte_waits_for_the_digest(live: Live, tmp_path: Path, peers: list[Peer]) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    peers.append(Peer(wrong))
    node = node_with(live, tmp_path, peers)
    with asking(node) as response:
        if response.status == 200:
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                response.read()
        else:
            assert response.status == 503


def test_after_a_liar_the_next_answer_is_right(
    live: Live, tmp_path: Path, peers: list[Peer]
) -> None:
    wrong = b"\0" * MIB + CONTENT[MIB:]
    peers += [Peer(wrong), Peer(CONTENT)]
    node = node_with(live, tmp_path, peers)
    got = b""
    for _ in range(20):
        try:
            with asking(node) as response:
                got = response.read()
        except (http.client.IncompleteRead, ConnectionError):
            continue
        if response.status == 200:
            break
    assert hashlib.sha512(got).hexdigest() == DIGEST


def test_a_slow_client_does_not_slow_the_load(
    live: Live, tmp_path: Path, peers: list[Peer]
) -> None:
    peers.append(Peer(CONTENT))
    node = node_with(live, tmp_path, peers)
    with asking(node) as slow:
        assert slow.read(10) == CONTENT[:10]
        with asking(node) as quick:
            assert hashlib.sha512(quick.read()).hexdigest() == DIGEST
        assert hashlib.sha512(CONTENT[:10] + slow.read()).hexdigest() == DIGEST
    assert peers[0].sent == len(CONTENT)


class TestForAPeer:
    """What a node in the middle of a load gives another one (``DTFC-Partial: wait``)."""

    def test_what_is_loaded_is_handed_on(
        self, live: Live, tmp_path: Path, peers: list[Peer]
    ) -> None:
        """As far as the map vouches for it, and the rest when that has come."""
        peers.append(Peer(CONTENT, 3 * MIB + MIB // 2, MAP))
        node = node_with(live, tmp_path, peers)
        with (
            asking(node) as loading,
            asking(node, f"/{DIGEST}/nopeerload", DTFC_Partial="wait") as response,
        ):
            assert (loading.status, response.status) == (200, 200)
            assert int(response.headers["Content-Length"]) == len(CONTENT)
            assert response.read(3 * MIB) == CONTENT[: 3 * MIB]
            assert peers[0].sent == 3 * MIB + MIB // 2
            peers[0].go_on.set()
            assert response.read() == CONTENT[3 * MIB :]

    def test_so_is_the_map(self, live: Live, tmp_path: Path, peers: list[Peer]) -> None:
        peers.append(Peer(CONTENT, 3 * MIB, MAP))
        node = node_with(live, tmp_path, peers)
        with (
            asking(node) as loading,
            asking(node, f"/{DIGEST}/chunks", DTFC_Partial="wait") as response,
        ):
            assert loading.status == 200
            assert response.read() == MAP

    def test_who_does_not_ask_for_it_is_told_that_nothing_is_here(
        self, live: Live, tmp_path: Path, peers: list[Peer]
    ) -> None:
        peers.append(Peer(CONTENT, 3 * MIB, MAP))
        node = node_with(live, tmp_path, peers)
        with asking(node) as loading:
            assert loading.status == 200
            for path in ("nopeerload", "chunks"):
                with asking(node, f"/{DIGEST}/{path}") as response:
                    assert response.status == 404

    def test_where_nothing_is_loaded_nobody_is_asked(
        self, live: Live, tmp_path: Path, peers: list[Peer]
    ) -> None:
        peers.append(Peer(CONTENT, None, MAP))
        node = node_with(live, tmp_path, peers)
        for path in ("nopeerload", "chunks"):
            with asking(node, f"/{DIGEST}/{path}", DTFC_Partial="wait") as response:
                assert response.status == 404
        assert peers[0].sent == 0
