"""The load generator against servers that are right and servers that are not."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import Wrong, pulled
from tests.support.programs import require_program

BODY = bytes(range(256)) * 1024


@pytest.fixture(autouse=True)
def compiler() -> None:
    require_program("gcc")


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, str]]

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        body, status = BODY, 200
        if span:
            first, last = map(int, span.removeprefix("bytes=").split("-"))
            body, status = BODY[first : last + 1], 206
        if self.path == "/missing":
            body, status = b"no", 404
        self.seen.append(("GET", self.path, span))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(("PUT", self.path, hashlib.sha512(body).hexdigest()))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[int, list[tuple[str, str, str]]]]:
    seen: list[tuple[str, str, str]] = []
    mine = type("Mine", (Answers,), {"seen": seen})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), mine) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving.server_address[1], seen
        serving.shutdown()
        thread.join()


Server = tuple[int, list[tuple[str, str, str]]]


def test_whole_bodies_are_counted(server: Server) -> None:
    port, seen = server
    got = pulled(port, "/x", "-n6", "-c2", f"-b{len(BODY)}", seconds=20, whole=True)
    assert (got.requests, got.bytes, got.reconnects) == (6, 6 * len(BODY), 0)
    assert seen == [("GET", "/x", "")] * 6
    assert 0 < got.p50 <= got.p99 <= got.max


def test_ranges_stay_inside_and_are_the_same_for_the_same_seed(server: Server) -> None:
    port, seen = server
    for _ in range(2):
        got = pulled(port, "/x", "-n20", f"-r1000:{len(BODY)}", "-s7", seconds=20, whole=True)
        assert got.bytes == 20 * 1000
    spans = [span for _, _, span in seen]
    assert spans[:20] == spans[20:]
    assert len(set(spans)) > 15


def test_unique_bodies_are_unique(server: Server) -> None:
    port, seen = server
    got = pulled(port, "/new-", "-n50", "-c4", "-P4096", "-s3", seconds=20, whole=True)
    assert (got.requests, got.bytes) == (50, 50 * 4096)
    assert len({digest for _, _, digest in seen}) == 50
    assert len({path for _, path, _ in seen}) == 50


def test_a_file_is_sent_as_it_is(server: Server, tmp_path: Path) -> None:
    port, seen = server
    file = tmp_path / "file"
    file.write_bytes(BODY * 20)
    pulled(port, "/name", "-F", str(file), "-n1", seconds=20, whole=True)
    assert seen == [("PUT", "/name", hashlib.sha512(BODY * 20).hexdigest())]


def test_paths_are_taken_from_a_list(server: Server, tmp_path: Path) -> None:
    port, seen = server
    paths = tmp_path / "paths"
    paths.write_text("/one\n/two\n")
    pulled(port, "/", "-l", str(paths), "-n4", seconds=20, whole=True)
    assert [path for _, path, _ in seen] == ["/one", "/two", "/one", "/two"]


def test_a_wrong_status_is_no_measurement(server: Server) -> None:
    with pytest.raises(Wrong, match="status 404"):
        pulled(server[0], "/missing", "-n1", seconds=20)


def test_a_wrong_length_is_no_measurement(server: Server) -> None:
    with pytest.raises(Wrong, match="unexpected status or length"):
        pulled(server[0], "/x", "-n1", "-b1", seconds=20)


def test_the_time_bound_holds(server: Server) -> None:
    got = pulled(server[0], "/x", seconds=0.3)
    assert not got.complete
    assert 0.3 <= got.seconds < 5


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlonger",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"nonsense, and no HTTP\r\n\r\n",
        b"",
    ],
)
def test_an_answer_that_is_not_whole_is_no_measurement(answer: bytes) -> None:
    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with pytest.raises(Wrong, match="1 wrong answers"):
            pulled(listening.getsockname()[1], "/x", "-n1", seconds=20)
        thread.join()
