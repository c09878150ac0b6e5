"""Where else a file can be had: ``Link`` fields (RFC 6249), and Metalink files (RFC 5854).

Rules of this file: pure. It writes, and reads nothing. A Metalink's size is
known before it is written, and it is written piece by piece: that of a large
file is large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from dtfc.digest import Digest

#: The media type of Metalink files.
METALINK = "application/metalink4+xml"

#: The least that a duplicate can be preferred (RFC 6249 section 3.1).
LEAST_PREFERRED = 999_999

#: Bytes of a piece's SHA-256.
_HASH = 32

#: Hashes that are written as one block.
_BLOCK = 1024

# ISO 3166-1 alpha-2, as officially assigned.
_ASSIGNED = (
    "ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br "
    "bs bt bv bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz "
    "ec ee eg eh er es et fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw "
    "gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky "
    "kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv "
    "mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py "
    "qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf tg "
    "th tj tk tl tm tn to tr tt tv tw tz ua ug um us uy uz va vc ve vg vi vn vu wf ws ye yt za zm "
    "zw"
)
_COUNTRIES = frozenset(_ASSIGNED.split())


@dataclass(frozen=True, slots=True)
class Mirror:
    """A place where a file can be had.

    Args:
        url: of the file there; ASCII, percent-encoded, without ``<``, ``>`` and spaces.
        country: where it stands, as ISO 3166-1 has it, in lower case; empty if that is not known.
    """

    url: str
    country: str = ""


def country_of(zone: str) -> str:
    """Return a zone's name as a country's code; empty if it is none."""
    code = zone.lower()
    return code if code in _COUNTRIES else ""


def link_values(digest: Digest, mirrors: Sequence[Mirror] | None) -> list[str]:
    """Write the values of a blob's ``Link`` fields, one for each place and one for its Metalink.

    A field for each, and words without quotes where they need none: that is how
    aria2 1.36 reads them.

    Args:
        digest: which blob.
        mirrors: other places than the one that answers, the best one first; None where
            no fields are wanted.
    """
    if mirrors is None:
        return []
    links = [
        f"<{mirror.url}>; rel=duplicate; pri={min(priority, LEAST_PREFERRED)}"
        + (f"; geo={mirror.country}" if mirror.country else "")
        for priority, mirror in enumerate(mirrors, 1)
    ]
    return [*links, f'</{digest}.meta4>; rel=describedby; type="{METALINK}"']


class MetalinkFile:
    """A Metalink of one file.

    Args:
        name: the file's; not a path, and nothing that XML has no character for.
        length: its bytes.
        sha512: its digest, in hexadecimal digits.
        mirrors: where it can be had, the best place first.
        piece: bytes of a piece; the last one may be shorter.
        hashes: the SHA-256 of each piece, one after another; empty where they are not known.
        generator: the program that writes.

    Attributes:
        size: bytes of the Metalink.
    """

    def __init__(
        self,
        name: str,
        length: int,
        sha512: str,
        mirrors: Sequence[Mirror],
        *,
        piece: int,
        hashes: bytes = b"",
        generator: str = "",
    ) -> None:
        self._hashes = memoryview(hashes)
        head = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<metalink xmlns="urn:ietf:params:xml:ns:metalink">',
            *([f"<generator>{escape(generator)}</generator>"] if generator else []),
            f"<file name={quoteattr(name)}>",
            f"<size>{length}</size>",
            f'<hash type="sha-512">{sha512}</hash>',
            *([f'<pieces length="{piece}" type="sha-256">'] if hashes else []),
        ]
        tail = [
            *(["</pieces>"] if hashes else []),
            *(
                f'<url priority="{min(priority, LEAST_PREFERRED)}"'
                + (f' location="{mirror.country}"' if mirror.country else "")
                + f">{escape(mirror.url)}</url>"
                for priority, mirror in enumerate(mirrors, 1)
            ),
            "</file>",
            "</metalink>",
        ]
        self._head = "\n".join([*head, ""]).encode("utf-8")
        self._tail = "\n".join([*tail, ""]).encode("utf-8")
        count = len(hashes) // _HASH
        self.size = len(self._head) + count * len(_line(bytes(_HASH))) + len(self._tail)

    def blocks(self) -> Iterator[bytes]:
        """Return the file, block by block."""
        yield self._head
        step = _BLOCK * _HASH
        for at in range(0, len(self._hashes), step):
            block = self._hashes[at : at + step]
            yield b"".join(_line(block[n : n + _HASH]) for n in range(0, len(block), _HASH))
        yield self._tail


def _line(sha256: bytes | memoryview) -> bytes:
    return f"<hash>{sha256.hex()}</hash>\n".encode("ascii")
