"""What peers say that a blob's chunks hash to, beside what its bytes here do.

Rules of this file: pure. A map is a peer's word: whoever sends wrong bytes can
send a map that fits them. So a map decides nothing for good. It tells a chunk
that is wrong from one that is not as long as somebody speaks the truth, and
only the digest of the whole tells who did.

- The *word* on a chunk is what all maps at hand say of it; where they differ
  there is none.
- Bytes that two peers sent alike, against the word, refute it.
- A wrong whole refutes every map that finds no fault in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from dtfc.store.chunkmap import CHUNK, HASH_SIZE, ChunkMap


class Hearsay:
    """The maps of one load.

    Args:
        length: of the blob, in bytes.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        # As long as there is need: a length is what a peer said.
        self._hashes = bytearray()
        self._hashed = bytearray()
        self._maps: dict[str, ChunkMap] = {}
        self._guide: str | None = None
        self.refuted: set[str] = set()
        """Peers whose maps turned out to be wrong."""
        self.replaced: dict[int, list[tuple[str | None, bytes]]] = {}
        """What was thrown away, by chunk: who sent it, and its hash."""

    def __len__(self) -> int:
        """How many maps there are."""
        return len(self._maps)

    @property
    def peers(self) -> tuple[str, ...]:
        """Whose maps there are."""
        return tuple(self._maps)

    def hear(self, peer: str, chunk_map: ChunkMap) -> bool:
        """Take a peer's map; False if it is of no use."""
        if chunk_map.length != self.length or peer in self.refuted:
            return False
        self._maps[peer] = chunk_map
        return True

    def refute(self, peer: str) -> None:
        """Believe a peer's map no longer."""
        self._maps.pop(peer, None)
        self.refuted.add(peer)
        if self._guide == peer:
            self._guide = None

    def follow(self, peer: str) -> None:
        """Go by this peer's map alone, until it is refuted."""
        self._guide = peer

    def any_map(self) -> ChunkMap | None:
        """Return the map that is gone by, if the maps at hand agree."""
        if self._guide is not None:
            return self._maps[self._guide]
        known = list(self._maps.values())
        return known[0] if known and all(each == known[0] for each in known) else None

    def word(self, chunk: int) -> bytes | None:
        """Return what a chunk should hash to; None if nobody, or not everybody, says so."""
        if self._guide is not None:
            return self._maps[self._guide].hash_of(chunk)
        said = {each.hash_of(chunk) for each in self._maps.values()}
        return said.pop() if len(said) == 1 else None

    def who_says(self, chunk: int, sha256: bytes) -> tuple[str, ...]:
        """Return the peers whose maps say this of a chunk."""
        return tuple(p for p, each in self._maps.items() if each.hash_of(chunk) == sha256)

    # what the bytes here hash to

    def note(self, chunk: int, sha256: bytes) -> None:
        """A chunk that is here hashes to this."""
        missing = chunk + 1 - len(self._hashed)
        if missing > 0:
            self._hashed += bytes(missing)
            self._hashes += bytes(missing * HASH_SIZE)
        self._hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE] = sha256
        self._hashed[chunk] = 1

    def forget(self, chunk: int) -> None:
        """A chunk is here no longer."""
        if chunk < len(self._hashed):
            self._hashed[chunk] = 0

    def hash_of(self, chunk: int) -> bytes | None:
        """Return what a chunk that is here hashes to; None if that is not known."""
        if chunk >= len(self._hashed) or not self._hashed[chunk]:
            return None
        return bytes(self._hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE])

    def hashed(self) -> Iterator[tuple[int, bytes]]:
        """Go through the chunks whose hash is known."""
        at = self._hashed.find(1)
        while at >= 0:
            yield at, bytes(self._hashes[at * HASH_SIZE : (at + 1) * HASH_SIZE])
            at = self._hashed.find(1, at + 1)

    def faults(self, peer: str) -> list[int]:
        """Return the chunks here that a peer's map calls wrong."""
        said = self._maps[peer]
        return [chunk for chunk, sha256 in self.hashed() if sha256 != said.hash_of(chunk)]

    def span(self, chunk: int) -> tuple[int, int]:
        """Return the bytes of a chunk."""
        return chunk * CHUNK, min((chunk + 1) * CHUNK, self.length)
