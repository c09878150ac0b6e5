"""A file as a torrent that is seeded over HTTP: BEP 3 and BEP 19.

Rules of this file: pure. What identifies a torrent (the hash of ``info``) follows
from the file's bytes and name alone, so every node makes the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The media type of torrents.
TORRENT = "application/x-bittorrent"

#: The least bytes of a piece ...
LEAST = 1 << 20

#: ... and the most pieces: beyond that they are larger, for programs refuse large torrents.
MOST_PIECES = 1 << 14


def piece_of(length: int) -> int:
    """Return how many bytes a piece of a file of so many bytes has: a power of two."""
    piece = LEAST
    while -(-length // piece) > MOST_PIECES:
        piece *= 2
    return piece


def torrent(name: str, length: int, pieces: bytes, urls: Sequence[str], generator: str) -> bytes:
    """Write a torrent of one file, without a tracker.

    Args:
        name: the file's; not a path.
        length: its bytes.
        pieces: the SHA-1 of each piece, one after another.
        urls: where the whole file can be had over HTTP, by ranges.
        generator: the program that writes.
    """
    info: dict[bytes, Bencodable] = {
        b"length": length,
        b"name": name.encode("utf-8"),
        b"piece length": piece_of(length),
        b"pieces": pieces,
    }
    return bencoded(
        {
            b"created by": generator.encode("utf-8"),
            b"encoding": b"UTF-8",
            b"info": info,
            b"url-list": [url.encode("ascii") for url in urls],
        }
    )


Bencodable = int | bytes | Sequence["Bencodable"] | dict[bytes, "Bencodable"]


def bencoded(value: Bencodable) -> bytes:
    """Write a value as BEP 3 has it: keys in the order of their bytes."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, dict):
        parts = (bencoded(key) + bencoded(value[key]) for key in sorted(value))
        return b"d%be" % b"".join(parts)
    return b"l%be" % b"".join(map(bencoded, value))
