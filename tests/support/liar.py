"""A server that says it has a file, and sends some of its bytes wrong."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_BLOCK = 64 * 1024


@dataclass
class Asked:
    """A request for bytes.

    Args:
        path: of the request.
        start: the first byte.
        stop: the byte behind the last.
    """

    path: str
    start: int
    stop: int


class Liar:
    """Answers GET and HEAD of whatever path with one file, whole or a range of it.

    Args:
        content: the file.
        wrong: places of bytes that are sent otherwise than they are.
        host: the address it listens on.
    """

    def __init__(self, content: bytes, wrong: Sequence[int], host: str = "127.0.0.2") -> None:
        lies = bytearray(content)
        for place in wrong:
            lies[place] ^= 1
        self.asked: list[Asked] = []
        self._server = _Server((host, 0), _Answers)
        self._server.daemon_threads = True
        self._server.content = bytes(lies)
        self._server.asked = self.asked
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    content: bytes
    asked: list[Asked]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that has seen enough leaves."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._begin()

    def do_GET(self) -> None:
        start, stop = self._begin()
        self.server.asked.append(Asked(self.path, start, stop))
        for at in range(start, stop, _BLOCK):
            self.wfile.write(self.server.content[at : min(at + _BLOCK, stop)])

    def _begin(self) -> tuple[int, int]:
        length = len(self.server.content)
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        stop = int(found[2]) + 1 if found and found[2] else length
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{length}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        return start, stop

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
