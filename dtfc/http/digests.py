"""Digest fields: RFC 9530, and RFC 3230, which aria2 and wget2 still speak.

Rules of this file: SHA-512 and SHA-256 are the only algorithms that count; any
other is skipped unread, never trusted (RFC 9530 section 5 calls the rest
insecure). A field that promises something and cannot be read is an error,
because to ignore it would mean to store unverified what the client wanted
verified; a field that only states a preference (``Want-…``) is then ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence

from dtfc.digest import Digest
from dtfc.errors import BadInput

#: The algorithms that count, strongest first, and the length of their digests in bytes.
ALGORITHMS = {
    "sha-512": hashlib.sha512().digest_size,
    "sha-256": hashlib.sha256().digest_size,
}

# Structured fields (RFC 9651 section 3). The possessive quantifiers keep each
# match linear; no alternative begins as another one does.
_BARE_ITEM = (
    r"(?::[A-Za-z0-9+/=]*+:"  # byte sequence
    r"|-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15}+)"  # decimal, integer
    r'|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+"'  # string
    r"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+"  # token
    r"|\?[01]"  # boolean
    r"|@-?[0-9]{1,15}+"  # date
    r'|%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*+")'  # display string
)
_KEY = r"[a-z*][a-z0-9_\-.*]*+"
_PARAMETERS = rf"(?:;\x20*+{_KEY}(?:={_BARE_ITEM})?+)*+"
_ITEM = rf"{_BARE_ITEM}{_PARAMETERS}"
_INNER_LIST = rf"\(\x20*+(?:{_ITEM}(?:\x20++|(?=\))))*+\){_PARAMETERS}"
_MEMBER = re.compile(
    rf"(?P<key>{_KEY})(?:=(?:(?P<item>{_BARE_ITEM}){_PARAMETERS}|{_INNER_LIST})|{_PARAMETERS})"
)
_COMMA = re.compile(r"[ \t]*+,[ \t]*+")
_INTEGER = re.compile(r"-?[0-9]+")

# RFC 3230 section 4.1.1 and 4.3.1.
_LEGACY = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]++)=([^\s,;]*+)")
_WANT_LEGACY = re.compile(
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]++)(?:[ \t]*+;[ \t]*+[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


def repr_digest(digest: Digest, sha256: bytes | None = None) -> str:
    """Write ``Repr-Digest`` (or ``Content-Digest``, where the whole is sent).

    Args:
        digest: the blob's.
        sha256: the 32 bytes of its SHA-256, where it is known.
    """
    members = [f"sha-512=:{digest.base64}:"]
    if sha256 is not None:
        members.append(f"sha-256=:{_base64(sha256)}:")
    return ", ".join(members)


def legacy_digest(digest: Digest, sha256: bytes | None = None) -> str:
    """Write ``Digest`` as RFC 3230 has it.

    Args:
        digest: the blob's.
        sha256: the 32 bytes of its SHA-256, where it is known.
    """
    members = [f"SHA-512={digest.base64}"]
    if sha256 is not None:
        members.append(f"SHA-256={_base64(sha256)}")
    return ",".join(members)


def parse_digest_field(values: Sequence[str]) -> dict[str, bytes]:
    """Read ``Repr-Digest`` or ``Content-Digest``: a dictionary of byte sequences.

    Parameters are allowed and mean nothing; of two members with one key the
    last counts (RFC 9651 section 4.2.2).

    Args:
        values: all field lines; they are one dictionary.

    Returns:
        The digests of the algorithms that count, by their lower-case names.

    Raises:
        BadInput: it is no dictionary, or a digest that counts is no byte
            sequence or has the wrong length.
    """
    members = _dictionary(values)
    if members is None:
        raise BadInput("the digest field is malformed (sha-512=:<base64>: is what it should be)")
    return {name: _byte_sequence(name, members[name]) for name in ALGORITHMS if name in members}


def parse_legacy_digest(values: Sequence[str]) -> dict[str, bytes]:
    """Read ``Digest``: ``SHA-512=<base64>``, algorithms of any case.

    Returns:
        The digests of the algorithms that count, by their lower-case names.

    Raises:
        BadInput: it is malformed, a digest that counts has the wrong length, or
            two for one algorithm contradict each other.
    """
    digests: dict[str, bytes] = {}
    for member in _list(values):
        match = _LEGACY.fullmatch(member)
        if not match:
            raise BadInput("the Digest field is malformed (SHA-512=<base64> is what it should be)")
        name = match[1].lower()
        if name in ALGORITHMS:
            raw = _decoded(name, match[2])
            if digests.setdefault(name, raw) != raw:
                raise BadInput(f"the Digest field has two different values for {name}")
    return digests


def parse_want_digest_field(values: Sequence[str]) -> dict[str, int]:
    """Read ``Want-Repr-Digest`` or ``Want-Content-Digest`` (RFC 9530 section 4).

    Returns:
        The preference, 1 to 10, for each algorithm that counts and is wanted;
        empty if the field is malformed.
    """
    wanted = {}
    for name, item in (_dictionary(values) or {}).items():
        if name in ALGORITHMS and item is not None and _INTEGER.fullmatch(item):
            preference = int(item)
            if 1 <= preference <= 10:  # 0 means: not acceptable
                wanted[name] = preference
    return wanted


def parse_legacy_want_digest(values: Sequence[str]) -> dict[str, float]:
    """Read ``Want-Digest`` (RFC 3230 section 4.3.1).

    Returns:
        The q-value, above 0 and up to 1, for each algorithm that counts and is
        wanted; empty if the field is malformed.
    """
    wanted: dict[str, float] = {}
    for member in _list(values):
        match = _WANT_LEGACY.fullmatch(member)
        if not match:
            return {}
        name, weight = match[1].lower(), float(match[2] or 1)
        if name in ALGORITHMS and weight > 0:
            wanted[name] = weight
    return wanted


def _dictionary(values: Sequence[str]) -> dict[str, str | None] | None:
    """Parse a dictionary (RFC 9651 section 4.2.2).

    Returns:
        Each key's bare item as it was sent, None for a key without one (true,
        or an inner list); None for the whole if it is malformed.
    """
    text = ", ".join(values).strip(" ")
    members: dict[str, str | None] = {}
    position = 0
    while position < len(text):
        match = _MEMBER.match(text, position)
        if not match:
            return None
        members[match["key"]] = match["item"]
        position = match.end()
        if position == len(text):
            break
        comma = _COMMA.match(text, position)
        if not comma or comma.end() == len(text):
            return None
        position = comma.end()
    return members


def _list(values: Sequence[str]) -> Iterator[str]:
    """Return the members of a comma list that has no quotes, empty ones skipped."""
    for value in values:
        for member in value.split(","):
            if text := member.strip(" \t"):
                yield text


def _byte_sequence(name: str, item: str | None) -> bytes:
    if item is None or not item.startswith(":"):
        raise BadInput(f"{name} must be a byte sequence between colons")
    return _decoded(name, item[1:-1])


def _decoded(name: str, encoded: str) -> bytes:
    # RFC 9651 section 4.2.7: a parser synthesizes padding that was left out,
    # and does not fail on pad bits that are not zero.
    padded = encoded if "=" in encoded else encoded + "=" * (-len(encoded) % 4)
    try:
        raw = base64.b64decode(padded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadInput(f"the value of {name} is not base64") from None
    if len(raw) != ALGORITHMS[name]:
        raise BadInput(f"a {name} digest has {ALGORITHMS[name]} bytes, this one has {len(raw)}")
    return raw


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
