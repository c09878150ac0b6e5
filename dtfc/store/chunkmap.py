"""The chunk map of a blob: one SHA-256 for each MiB, so that a part can be checked alone.

A blob of one chunk or less has no map: its digest says as much.

The file (``chunks``, beside the blob's bytes), all numbers big-endian::

    8  "dtfc-map"
    4  version, 1
    4  bytes of a chunk
    8  bytes of the blob
    64 the blob's SHA-512
    32 for each chunk: its SHA-256
    32 the SHA-256 of everything before

Rules of this file: no disk. A map is made of bytes whose SHA-512 was taken in
the same pass, and says nothing that the digest does not vouch for; one that was
damaged, or is of another blob, is none.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dtfc.digest import Digest

#: Bytes of a chunk; the last one of a blob may be shorter.
CHUNK = 1 << 20

HASH_SIZE = 32

_MAGIC = b"dtfc-map"
_VERSION = 1
_HEADER = struct.Struct(">8sIIQ64s")


def count_of(length: int) -> int:
    """Return how many chunks a blob of so many bytes has."""
    return -(-length // CHUNK)


def map_size(length: int) -> int:
    """Return the bytes of the file that holds the map of a blob of so many bytes."""
    return _HEADER.size + HASH_SIZE * (count_of(length) + 1)


@dataclass(frozen=True, slots=True)
class ChunkMap:
    """The hashes of a blob's chunks.

    Args:
        digest: of the whole.
        length: of the whole, in bytes.
        hashes: 32 bytes for each chunk, one after another.
    """

    digest: Digest
    length: int
    hashes: bytes

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self.hashes) // HASH_SIZE

    def hash_of(self, index: int) -> bytes:
        """Return the SHA-256 of one chunk."""
        return self.hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE]

    def content(self) -> bytes:
        """Compose the file."""
        header = _HEADER.pack(_MAGIC, _VERSION, CHUNK, self.length, self.digest.raw)
        return header + self.hashes + hashlib.sha256(header + self.hashes).digest()


def read_map(content: bytes, digest: Digest, length: int) -> ChunkMap | None:
    """Return what a file says; None if it is damaged, or is not this blob's map.

    Args:
        content: of the file.
        digest: the blob's.
        length: of the blob, in bytes.
    """
    if len(content) != map_size(length):
        return None
    body, checksum = content[:-HASH_SIZE], content[-HASH_SIZE:]
    if hashlib.sha256(body).digest() != checksum:
        return None
    if _HEADER.unpack_from(body) != (_MAGIC, _VERSION, CHUNK, length, digest.raw):
        return None
    return ChunkMap(digest, length, body[_HEADER.size :])


class ChunkHashes:
    """The hashes of chunks, taken while the bytes come by."""

    def __init__(self) -> None:
        self._done = bytearray()  # of a list, a TiB would take twice as much
        self._current = hashlib.sha256()
        self._in_current = 0

    def __len__(self) -> int:
        """How many chunks are whole."""
        return len(self._done) // HASH_SIZE

    def hash_of(self, index: int) -> bytes:
        """Return the hash of a chunk that is whole."""
        return bytes(self._done[index * HASH_SIZE : (index + 1) * HASH_SIZE])

    def give(self, sha256: bytes) -> None:
        """Take the hash of the next chunk from somebody who knows it; none may have begun."""
        self._done += sha256

    def mark(self) -> ChunkHashes:
        """Return what to go back to (:meth:`back_to`)."""
        mark = ChunkHashes()
        mark._current = self._current.copy()
        mark._in_current = self._in_current
        return mark

    def back_to(self, mark: ChunkHashes, count: int) -> None:
        """Forget all that was taken since a mark was made, when ``count`` chunks were whole."""
        del self._done[count * HASH_SIZE :]
        self._current = mark._current.copy()
        self._in_current = mark._in_current

    def take(self, blocks: Sequence[bytes | memoryview]) -> None:
        """Hash the next bytes, cut in whatever way."""
        for block in blocks:
            view = memoryview(block)
            while view:
                piece = view[: CHUNK - self._in_current]
                self._current.update(piece)
                self._in_current += len(piece)
                view = view[len(piece) :]
                if self._in_current == CHUNK:
                    self._close_chunk()

    def _close_chunk(self) -> None:
        self._done += self._current.digest()
        self._current = hashlib.sha256()
        self._in_current = 0

    def finish(self) -> bytes:
        """Return the hashes of all chunks; nothing can be taken after that."""
        if self._in_current:
            self._close_chunk()
        return bytes(self._done)
