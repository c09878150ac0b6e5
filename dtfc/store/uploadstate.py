"""What is known of an upload, as the file beside its bytes has it.

It begins with two lines of a fixed length, each with a check, of which the newer
one counts: how many bytes are durable, and what decides whether there are more.
One is written over in place while the other one, which is durable, stays: so a
line that a loss of power tore costs nothing that anybody was told. Behind them,
in JSON, is what was announced, and what has become of it; that is replaced as a
whole.

Rules of this file: what makes no sense is no upload. It knows no clock and no
lock.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

_BOOT = 36
_LINE = re.compile(rb"(([0-9]{20}) ([0-9]{10}) ([01]) ([\x21-\x7e]{36})) ([0-9a-f]{8})\n")

#: Bytes of a line.
LINE_LENGTH = 20 + 1 + 10 + 1 + 1 + 1 + _BOOT + 1 + 8 + 1

#: Lines.
SLOTS = 2

#: Bytes of the whole file at most.
LARGEST = 256 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """How far an upload is, as its file says.

    Args:
        offset: bytes that are durable.
        number: of the note, counted from the beginning: whoever finds another one
            than his own last knows that others were at it.
        unproven: whether the bytes behind ``offset`` wait for their checksum.
        boot: of the machine, when this was written: within one boot the file
            itself says how far it is.
    """

    offset: int = 0
    number: int = 0
    unproven: bool = False
    boot: str = "-"

    def line(self) -> bytes:
        """Return the line."""
        text = f"{self.offset:020d} {self.number:010d} {self.unproven:d} {self.boot:-<36.36}"
        line = text.encode("ascii")
        return line + b" %08x\n" % zlib.crc32(line)

    def of_boot(self, boot: str) -> bool:
        """Tell whether it was written since this boot."""
        return boot != "-" and f"{boot:-<36.36}" == f"{self.boot:-<36.36}"


def _place(line: bytes) -> Place | None:
    match = _LINE.fullmatch(line)
    if match is None or zlib.crc32(match[1]) != int(match[6], 16):
        return None
    return Place(int(match[2]), int(match[3]), match[4] == b"1", match[5].decode("ascii"))


@dataclass(frozen=True, slots=True)
class Announced:
    """What an upload is to be.

    Args:
        name: the file name; None for none.
        length: in bytes; None while that is not known.
        sha512: 128 hexadecimal digits that the whole must have; None if that is
            not known.
        sha256: the same, 64 digits.
        metadata: tus' field, as it came.
        is_part: whether it is to be joined with others.
        parts: the ids of those that it is joined of.
    """

    name: str | None = None
    length: int | None = None
    sha512: str | None = None
    sha256: str | None = None
    metadata: str = ""
    is_part: bool = False
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an upload, beside how far it is.

    Args:
        announced: what it is to be.
        created_at: seconds since 1970.
        stored: what its client is answered, once it is a blob.
        joined: the id of the upload that this one is a part of, once it is.
    """

    announced: Announced = field(default_factory=Announced)
    created_at: float = 0.0
    stored: dict[str, Any] | None = None
    joined: str | None = None

    @property
    def over(self) -> bool:
        """Whether its bytes have gone where they belong."""
        return self.stored is not None or self.joined is not None


@dataclass(frozen=True, slots=True)
class State:
    """What the file says.

    Args:
        place: how far the upload is.
        slot: which of the lines says so.
        known: all else.
    """

    place: Place
    slot: int
    known: Known


def content_of(place: Place, known: Known) -> bytes:
    """Return the whole file, whose first line says how far the upload is."""
    empty = b"-" * (LINE_LENGTH - 1) + b"\n"
    return place.line() + empty + json.dumps(asdict(known)).encode("ascii") + b"\n"


def read_state(content: bytes) -> State | None:
    """Read the whole file; None if it is not one."""
    found = [_place(content[at * LINE_LENGTH :][:LINE_LENGTH]) for at in range(SLOTS)]
    places = [(place.number, slot, place) for slot, place in enumerate(found) if place is not None]
    if not places:
        return None
    _, slot, place = max(places, key=lambda each: each[:2])
    try:
        known = _known(json.loads(content[SLOTS * LINE_LENGTH :]))
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    return None if known is None else State(place, slot, known)


def _known(facts: Any) -> Known | None:
    told = facts["announced"]
    texts = (told["name"], told["sha512"], told["sha256"], facts["joined"])
    numbers = (told["length"], facts["created_at"])
    if not (
        all(text is None or isinstance(text, str) for text in texts)
        and (told["length"] is None or (type(told["length"]) is int and told["length"] >= 0))
        and all(number is None or type(number) in (int, float) for number in numbers)
        and isinstance(told["metadata"], str)
        and isinstance(told["is_part"], bool)
        and all(isinstance(part, str) for part in told["parts"])
        and (facts["stored"] is None or isinstance(facts["stored"], dict))
    ):
        return None
    # JSON has lists only.
    announced = Announced(**{**told, "parts": tuple(told["parts"])})
    return Known(**{**facts, "announced": announced})
