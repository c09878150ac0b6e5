"""A peer that sends no faster than it is told, as a process of its own.

    python tests/support/paced.py FILE PORT RATE DELAY

Answers ``/<digest>/nopeerload`` (whole, and one range), ``/<digest>/chunks``, and
``/sent``: the bytes of bodies that have left. ``RATE`` is in bytes a second, for all
connections together, each getting its turn; 0 for no limit. ``DELAY`` is in seconds, before
each answer with bytes: as far away is the peer.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

CHUNK = 1 << 20
PIECE = 64 * 1024
BURST = 4 * PIECE


class Pace:
    """Hands out bytes at a rate."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def turn(self, count: int) -> None:
        """Wait until so many bytes may leave."""
        if not self._rate:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - BURST / self._rate) + count / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Peer:
    """Serves one file."""

    def __init__(self, path: Path, rate: float, delay: float) -> None:
        self._path = path
        self._delay = delay
        self._length = path.stat().st_size
        self._pace = Pace(rate)
        self._sent = 0
        self._digest = ""
        self._map = b""

    def read(self) -> None:
        """Hash the file."""
        whole = hashlib.sha512()
        hashes = b""
        with self._path.open("rb") as file:
            while block := file.read(CHUNK):
                whole.update(block)
                hashes += hashlib.sha256(block).digest()
        self._digest = whole.hexdigest()
        body = b"dtfc-map" + (1).to_bytes(4, "big") + CHUNK.to_bytes(4, "big")
        body += self._length.to_bytes(8, "big") + whole.digest() + hashes
        self._map = body + hashlib.sha256(body).digest()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                if path == "/sent":
                    self._small(writer, str(self._sent).encode())
                elif path == f"/{self._digest}/chunks":
                    self._small(writer, self._map)
                elif path == f"/{self._digest}/nopeerload":
                    await self._blob(head, writer)
                else:
                    writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _small(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def _blob(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        start, stop = 0, self._length
        await asyncio.sleep(self._delay)
        found = re.search(rb"(?i)\r\nrange: *bytes=([0-9]+)-([0-9]*)", head)
        if found:
            start = int(found[1])
            stop = int(found[2]) + 1 if found[2] else stop
            span = b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, self._length)
            writer.write(b"HTTP/1.1 206 Part\r\n" + span)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % (stop - start))
        if head.startswith(b"HEAD"):
            return
        with self._path.open("rb") as file:
            file.seek(start)
            while start < stop:
                piece = file.read(min(PIECE, stop - start))
                await self._pace.turn(len(piece))
                writer.write(piece)
                await writer.drain()
                start += len(piece)
                self._sent += len(piece)


async def main(path: str, port: str, rate: str, delay: str) -> None:
    """Serve until it is killed."""
    peer = Peer(Path(path), float(rate), float(delay))
    peer.read()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", int(port))
    async with server:
        await server.serve_forever()


class PacedPeer:
    """Such a process.

    Args:
        path: the blob.
        port: where it listens.
        rate: bytes a second; 0 for no limit.
        delay: seconds before each answer.
    """

    def __init__(self, path: Path, port: int, rate: float = 0, delay: float = 0) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(path), str(port), str(rate), str(delay)]
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.sent()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def sent(self) -> int:
        """Bytes of the blob that have left."""
        with urllib.request.urlopen(f"{self.url}/sent", timeout=10) as answer:  # noqa: S310 -- http
            return int(answer.read())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
