"""What a node and its writer of small blobs say to each other, through two pipes.

To the writer, one after the other:

    size of what follows, number of the request, reserve of the store,
    whether a digest was promised, size of the name, digest, name, bytes

From the writer, all of one length:

    number of the request, outcome, errno, time stamp, digest

Rules of this file: no file, no socket, no clock.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.store.facts import BlobInfo

_SIZE = struct.Struct("=I")
_PUT = struct.Struct("=IIQ?H")
_ANSWER = struct.Struct("=IBId64s")
_NO_NAME = 0xFFFF
_NO_DIGEST = Digest(bytes(64))

#: The number that no request has. ELSEWHERE: the writer is ready; FAILED: an
#: fsync of its failed, whether or not a request waited for it.
READY = 0xFFFFFFFF

STORED = 0
ELSEWHERE = 1
FAILED = 2


@dataclass(frozen=True, slots=True)
class Put:
    """A request to the writer.

    Args:
        number: of the request.
        reserve: bytes of the file system to keep back.
        digest: what was promised.
        name: the file name it came with.
        body: the blob's bytes.
    """

    number: int
    reserve: int
    digest: Digest | None
    name: str | None
    body: bytes

    def pack(self) -> bytes:
        """Return what is sent."""
        name = b"" if self.name is None else self.name.encode()
        digest = b"" if self.digest is None else self.digest.raw
        size = _NO_NAME if self.name is None else len(name)
        length = _PUT.size - _SIZE.size + len(digest) + len(name) + len(self.body)
        head = _PUT.pack(length, self.number, self.reserve, self.digest is not None, size)
        return b"".join((head, digest, name, self.body))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the writer says.

    Args:
        number: of the request.
        outcome: STORED; ELSEWHERE: nothing was done, the door shall decide; or
            FAILED: it could not be made durable.
        errno: what the operating system said, if it failed.
        stored_at: the blob's time stamp, if it was stored.
        digest: of the blob, if it was stored.
    """

    number: int
    outcome: int
    errno: int = 0
    stored_at: float = 0.0
    digest: Digest = _NO_DIGEST

    def pack(self) -> bytes:
        """Return what is sent."""
        return _ANSWER.pack(self.number, self.outcome, self.errno, self.stored_at, self.digest.raw)

    def info(self, name: str | None, length: int) -> BlobInfo:
        """Return the facts of a blob that was stored, with what only the asker knows."""
        return BlobInfo(self.digest, length, self.stored_at, name, () if name is None else (name,))


class Puts:
    """Finds requests in a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Put]:
        """Take bytes; return what is complete."""
        self._buffer += data
        found: list[Put] = []
        at = 0
        buffer = self._buffer
        while len(buffer) >= at + _PUT.size:
            length, number, reserve, promised, size = _PUT.unpack_from(buffer, at)
            end = at + _SIZE.size + length
            if len(buffer) < end:
                break
            at += _PUT.size
            digest = name = None
            if promised:
                digest = Digest(bytes(buffer[at : at + 64]))
                at += 64
            if size != _NO_NAME:
                name = buffer[at : at + size].decode()
                at += size
            found.append(Put(number, reserve, digest, name, bytes(buffer[at:end])))
            at = end
        del buffer[:at]
        return found


class Answers:
    """Finds answers in a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Answer]:
        """Take bytes; return what is complete."""
        data = self._rest + data
        whole = len(data) - len(data) % _ANSWER.size
        self._rest = data[whole:]
        return [
            Answer(number, outcome, number_of_error, stored_at, Digest(raw))
            for number, outcome, number_of_error, stored_at, raw in _ANSWER.iter_unpack(
                data[:whole]
            )
        ]
