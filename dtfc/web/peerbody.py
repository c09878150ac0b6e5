"""Small bodies, read whole, and what a signature says of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dtfc.errors import TooLarge, WrongDigest
from dtfc.http.digests import parse_digest_field

if TYPE_CHECKING:
    from dtfc.web.request import Request


async def read_small(request: Request, most: int, setting: str) -> bytes:
    """Read a body whole, and compare it with its Content-Digest where it has one.

    A peer's signature covers that field, not the bytes themselves, so whoever
    reads a signed body without this believes whatever came.

    Args:
        request: not read yet.
        most: bytes of a body that is taken.
        setting: what that limit is called.

    Raises:
        TooLarge: it is larger.
        WrongDigest: the bytes are not those that were promised.
        BadInput: the promise cannot be read.
        DtfcError: as the body's own ``read``.
    """
    promised = parse_digest_field(request.field("content-digest"))
    length = request.head.content_length
    if length is not None and length > most:
        raise TooLarge(most, setting)
    blocks: list[bytes] = []
    count = 0
    while found := await request.body.read(1):
        blocks += found
        count += sum(map(len, found))
        if count > most:
            raise TooLarge(most, setting)
    whole = b"".join(blocks)
    for algorithm, digest in promised.items():
        actual = hashlib.new(algorithm.replace("-", ""), whole).digest()
        if actual != digest:
            raise WrongDigest(algorithm.upper(), digest.hex(), actual.hex())
    return whole
