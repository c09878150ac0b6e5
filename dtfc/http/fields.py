"""Tokens and field lines: the grammar that heads and trailers share.

Rules of this file: bytes in, facts out; no state, no I/O, no clock. A message
is taken as RFC 9110 and RFC 9112 write it, or refused: what two programs could
read in two ways is how requests are smuggled, so nothing is mended here.
Every pattern runs in linear time (possessive repeats, no nested ones).
"""

from __future__ import annotations

import re

from dtfc.errors import DtfcError

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""RFC 9110 section 5.6.2."""

_IS_TOKEN = re.compile(TOKEN)
_TOKEN_START = re.compile(TOKEN + rb"[ \t]*")

# RFC 9110 section 5.5: VCHAR and obs-text, with blanks only between them (the
# blanks around are OWS and belong to nobody). A run of blanks before the CR
# must not become part of the value, hence the look-ahead.
_FIELD_LINE = re.compile(
    rb"^(" + TOKEN + rb"):[ \t]*+((?:[\x21-\x7e\x80-\xff]++|[ \t]++(?!\r))*+)[ \t]*+\r\n",
    re.MULTILINE,
)

# What may stand nowhere in a head: NUL, a CR without LF, an LF without CR
# (RFC 9112 section 2.2 allows a recipient to take a bare LF as a line end;
# proxies disagree about it, so it is refused). All three branches begin with a
# literal, which lets the scanner skip at full speed.
_STRAY = re.compile(rb"\x00|\r(?!\n)|\n(?<!\r\n)")
_STRAY_NAMES = {
    b"\x00": "a NUL byte",
    b"\r": "a CR that no LF follows",
    b"\n": "an LF without a CR before it (lines end with CR LF)",
}
_CR = 0x0D
_BLANKS = b" \t"


class BadMessage(DtfcError):
    """A request that is not HTTP as RFC 9112 defines it; the connection ends with it.

    Args:
        status: the status code of the answer.
        title: what is wrong, in a few words.
        detail: the same as a sentence that helps to mend it.
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail


class BadHead(BadMessage):
    """The request line or the header section cannot be taken."""


def stray(data: bytes | bytearray, start: int, end: int) -> tuple[int, str] | None:
    """Find the first NUL, bare CR or bare LF.

    Args:
        data: what came; bytes before ``start`` are looked at as context only.
        start: the first byte to judge.
        end: one past the last. A CR that is the last of all is not judged
            yet: see the returned position of ``judged``.

    Returns:
        The position and the name of what was found, or None.
    """
    found = _STRAY.search(data, start, judged(data, start, end))
    return (found.start(), _STRAY_NAMES[found.group()]) if found else None


def judged(data: bytes | bytearray, start: int, end: int) -> int:
    """Return up to where `stray` can judge: a CR at the end may still get its LF."""
    return end - 1 if end > start and data[end - 1] == _CR else end


def is_token(text: bytes) -> bool:
    """Tell whether ``text`` is one token (RFC 9110 section 5.6.2)."""
    return _IS_TOKEN.fullmatch(text) is not None


def elements(values: list[bytes]) -> list[bytes]:
    """Split a list-valued field, all its lines together, at the commas.

    RFC 9110 section 5.3 makes several lines one list. Empty elements are kept;
    whether section 5.6.1.2 lets them pass is for the caller to say. Quoted
    strings are cut as well: no field read here has a good value with one.
    """
    return [element.strip(_BLANKS) for element in b",".join(values).split(b",")]


def field_lines(block: bytes) -> list[tuple[bytes, bytes]] | str:
    """Parse complete field lines.

    Args:
        block: the lines, each with its CR LF, without stray bytes
            (see `stray`) and without the empty line at the end.

    Returns:
        The name, as sent, and the value, without the blanks around it, of each;
        or the sentence that says what is wrong with the first bad line.
    """
    fields: list[tuple[bytes, bytes]] = _FIELD_LINE.findall(block)
    # Each match takes exactly one line and is anchored at its start, so as
    # many matches as lines means that nothing was skipped.
    if len(fields) == block.count(b"\n"):
        return fields
    number, at = 1, 0
    while match := _FIELD_LINE.match(block, at):
        number, at = number + 1, match.end()
    return _what_is_wrong(number, block[at : block.find(b"\r\n", at)])


def _what_is_wrong(number: int, line: bytes) -> str:
    if line[:1] in (b" ", b"\t"):
        # RFC 9112 section 5.2: obs-fold is refused or replaced by SP; refused.
        return f"field line {number} begins with a blank; folded lines are obsolete"
    name, colon, value = line.partition(b":")
    if not colon:
        return f"field line {number} has no colon"
    if not name:
        return f"field line {number} has no name before the colon"
    if is_token(name):
        shown = name[:64].decode("ascii")
        bad = next(c for c in value if (c < 0x20 and c != 0x09) or c == 0x7F)
        return f"the value of {shown} holds the control character 0x{bad:02x}"
    if _TOKEN_START.fullmatch(name):
        # RFC 9112 section 5.1: MUST be answered with 400.
        return f"field line {number} has a blank between the name and the colon"
    return f"the name in field line {number} holds a character that no field name may have"
