"""The digest: the one name a blob has.

Rules of this file: a digest is a value, compared and hashed by its 64 bytes;
hexadecimal appears only at the edges (URLs, file names, JSON).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from dtfc.errors import BadDigest

HEX_LENGTH = 128
_HEX = re.compile(r"[0-9a-fA-F]{128}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The SHA-512 of a blob's bytes.

    Args:
        raw: the 64 bytes of the SHA-512.

    Raises:
        BadDigest: ``raw`` is not 64 bytes long.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != hashlib.sha512().digest_size:
            raise BadDigest(self.raw.hex())

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of bytes held in memory."""
        return cls(hashlib.sha512(data).digest())

    @classmethod
    def from_hex(cls, text: str) -> Digest:
        """Parse 128 hexadecimal digits of either case.

        Raises:
            BadDigest: anything else, surrounding blanks included.
        """
        if not _HEX.match(text):
            raise BadDigest(text)
        return cls(bytes.fromhex(text))

    @property
    def hex(self) -> str:
        """128 lower-case hexadecimal digits: the form in URLs, files and JSON."""
        return self.raw.hex()

    @property
    def base64(self) -> str:
        """The form inside ``Repr-Digest`` and ``Digest`` header fields."""
        return base64.b64encode(self.raw).decode("ascii")

    @property
    def etag(self) -> str:
        """The strong entity tag: equal digests are equal bytes (RFC 9110 section 8.8.3)."""
        return f'"{self.raw.hex()}"'

    def __str__(self) -> str:
        return self.hex
