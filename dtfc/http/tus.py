"""The fields of tus 1.0, the protocol of resumable uploads of tus.io.

Rules of this file: what decides where bytes go or whether they are right is
read strictly; of metadata only the names that mean something here are looked
at, and the rest is handed back as it came.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dtfc.errors import BadInput, UnknownUpload

VERSION = "1.0.0"

EXTENSIONS = (
    "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination,"
    "concatenation"
)

#: Media type of a part.
PART = "application/offset+octet-stream"

#: Checksums of parts; ``sha1`` is the one that every server must know.
CHECKSUMS = ("sha1", "sha256", "sha512")

#: Longest Upload-Metadata, in characters: it is kept with the upload.
LONGEST_METADATA = 8192

#: Parts that one upload may be joined of.
MOST_PARTS = 1000

_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+\Z")
_COUNT = re.compile(r"[0-9]{1,15}\Z")
_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a part must hash to.

    Args:
        algorithm: one of :data:`CHECKSUMS`.
        digest: its bytes.
    """

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Concat:
    """What ``Upload-Concat`` says.

    Args:
        parts: the ids of the uploads that are joined; none for one that is a part.
    """

    parts: tuple[str, ...] = ()

    @property
    def joins(self) -> bool:
        """Whether other uploads are joined."""
        return bool(self.parts)


def is_upload_id(text: str) -> bool:
    """Tell whether a text could be the id of an upload."""
    return _ID.match(text) is not None


def parse_count(name: str, values: Sequence[str]) -> int | None:
    """Read ``Upload-Offset`` or ``Upload-Length``; None if it is not there.

    Raises:
        BadInput: it is no number of bytes.
    """
    if not values:
        return None
    if len(values) > 1 or not _COUNT.match(values[0].strip(" \t")):
        raise BadInput(f"{name} is a number of bytes of at most 15 digits")
    return int(values[0])


def parse_metadata(values: Sequence[str]) -> dict[str, str]:
    """Read ``Upload-Metadata``: pairs of a key and a value in base64.

    Returns:
        The values that are UTF-8, by key.

    Raises:
        BadInput: a pair is malformed, a key is there twice, or it is too long.
    """
    text = ",".join(values)
    if len(text) > LONGEST_METADATA:
        raise BadInput(f"Upload-Metadata has more than {LONGEST_METADATA} characters")
    found: dict[str, str] = {}
    seen: set[str] = set()
    for pair in text.split(",") if text.strip() else ():
        key, _, encoded = pair.strip(" ").partition(" ")
        if not _KEY.match(key) or key in seen:
            raise BadInput("Upload-Metadata has different keys, each with base64 behind it")
        seen.add(key)
        try:
            found[key] = base64.b64decode(
                encoded.strip(" ").encode("ascii"), validate=True
            ).decode()
        except UnicodeDecodeError:
            continue  # not for us
        except (binascii.Error, UnicodeEncodeError):
            raise BadInput(f"the value of {key} in Upload-Metadata is not base64") from None
    return found


def parse_checksum(values: Sequence[str]) -> Checksum | None:
    """Read ``Upload-Checksum``: an algorithm and a digest in base64; None if it is not there.

    Raises:
        BadInput: another algorithm, or no such digest (the extension wants 400).
    """
    if not values:
        return None
    algorithm, _, encoded = values[0].strip(" \t").partition(" ")
    if len(values) > 1 or algorithm not in CHECKSUMS:
        raise BadInput(f"Upload-Checksum is one of {', '.join(CHECKSUMS)} and base64 behind it")
    try:
        digest = base64.b64decode(encoded.strip(" ").encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadInput("the digest of Upload-Checksum is not base64") from None
    if len(digest) != hashlib.new(algorithm).digest_size:
        raise BadInput(f"a digest of {algorithm} does not have {len(digest)} bytes")
    return Checksum(algorithm, digest)


def parse_concat(values: Sequence[str]) -> Concat | None:
    """Read ``Upload-Concat``; None if it is not there.

    Raises:
        BadInput: neither ``partial`` nor ``final;`` and uploads of this node.
        UnknownUpload: one of them cannot be one.
    """
    if not values:
        return None
    text = values[0].strip(" \t")
    if len(values) == 1 and text == "partial":
        return Concat()
    kind, semicolon, urls = text.partition(";")
    parts = urls.split()
    if len(values) > 1 or kind != "final" or not semicolon or not 1 <= len(parts) <= MOST_PARTS:
        raise BadInput(
            f"Upload-Concat is 'partial', or 'final;' and 1 to {MOST_PARTS} URLs of such parts"
        )
    return Concat(tuple(map(_id_of, parts)))


def _id_of(url: str) -> str:
    try:
        name = urlsplit(url).path.rpartition("/")[2]
    except ValueError:
        name = ""
    if not is_upload_id(name):
        raise UnknownUpload
    return name
