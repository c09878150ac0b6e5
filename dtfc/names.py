r"""File names: metadata that clients give and get back, never a path.

Rules of this file: a name is checked once, where it comes in, and is text from
then on. Nothing in dtfc builds a path from one, so what is refused here is
refused for the sake of those who download: names that would write elsewhere
than into the folder they are saved to, or that show as something they are not.

Refused, beside what the protocol names (empty, ``.``, ``..``, NUL, ``/``,
``\``, controls): the line and paragraph separators U+2028 and U+2029, which
are line ends to many programs, and the characters that embed, override or
isolate text direction (U+202A to U+202E, U+2066 to U+2069), with which
``photo<U+202E>gpj.exe`` shows as ``photoexe.jpg``. Taken: the plain direction
marks U+200E, U+200F and U+061C, which real Hebrew and Arabic names contain and
which never reorder letters, and every other character, assigned or not.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from dtfc.errors import BadName

#: Bytes of UTF-8, what most file systems take.
MAX_BYTES = 255

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_REFUSED = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "/\\\\"
    "\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff]"  # lone surrogates have no UTF-8
)
# NFC shortens no text to less than a third of its bytes; what cannot come down
# to the limit is refused before it costs anything.
_LONGEST_UNCOMPOSED = 3 * MAX_BYTES

# RFC 8187 section 3.2.1: attr-char, beside the letters and digits.
_ATTR_CHAR = "!#$&+-.^_`|~"
# What a quoted file name may hold and every client reads alike: no quote, no
# backslash, and no per cent sign (RFC 6266 appendix D).
_NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["\\%]')
_UNNAMED = "file"
# XML 1.0 has no such characters (section 2.2), and text none in any case.
_NO_CHARACTER = re.compile("[\ufffe\uffff]")


def name_from_segment(raw: bytes) -> str:
    """Return the name that a path segment spells.

    Args:
        raw: the last segment of the path as it was sent, percent-encoded. It
            is decoded once: ``%2541`` is the name ``%41``. A plus is a plus.

    Raises:
        BadName: a broken escape, no UTF-8, or a name that is not taken.
    """
    try:
        return check_name(_ESCAPE.sub(_unescaped, raw).decode("utf-8"))
    except UnicodeDecodeError:
        raise BadName("the name is not UTF-8") from None


def _unescaped(escape: re.Match[bytes]) -> bytes:
    if escape[1] is None:
        raise BadName("a per cent sign in the name is not followed by two hexadecimal digits")
    return bytes.fromhex(escape[1].decode("ascii"))


def check_name(text: str) -> str:
    """Return the name in its one form (NFC).

    Raises:
        BadName: it is not taken; the reason says why.
    """
    if not text:
        raise BadName("the name is empty")
    if text in (".", ".."):
        raise BadName(f"{text} names a folder, not a file")
    # NFC makes none of these out of other characters; a test walks them all.
    refused = _REFUSED.search(text)
    if refused:
        raise BadName(f"the name contains {_described(refused[0])}")
    if len(text) > _LONGEST_UNCOMPOSED or len(text.encode("utf-8")) > _LONGEST_UNCOMPOSED:
        raise BadName(f"the name has more than {MAX_BYTES} bytes of UTF-8")
    name = unicodedata.normalize("NFC", text)
    if len(name.encode("utf-8")) > MAX_BYTES:
        raise BadName(f"the name has more than {MAX_BYTES} bytes of UTF-8")
    return name


def _described(character: str) -> str:
    if character in "/\\":
        return character
    return f"the character U+{ord(character):04X}, which names must not contain"


def safe_name(name: str, otherwise: str = _UNNAMED) -> str:
    """Return a name under which somebody else may keep a file, whatever an older store holds.

    What :func:`check_name` refuses becomes ``_``. Leading dots are left out, so
    that nobody downloads a hidden file unawares; the name itself keeps them.

    Args:
        name: of the file.
        otherwise: its name if nothing is left of that one.
    """
    text = _REFUSED.sub("_", name).lstrip(".")
    return text.encode("utf-8")[:MAX_BYTES].decode("utf-8", "ignore") or otherwise


def name_in_xml(name: str, otherwise: str) -> str:
    """Return :func:`safe_name`, with characters alone that XML has; arguments as there."""
    return _NO_CHARACTER.sub("_", safe_name(name, otherwise))


def content_disposition(name: str, inline: bool) -> str:  # noqa: FBT001 -- one of two words
    """Write Content-Disposition (RFC 6266), ASCII, safe for any name whatsoever.

    The name is made safe first (:func:`safe_name`).

    Args:
        name: of the file.
        inline: show it in the browser instead of saving it.
    """
    kind = "inline" if inline else "attachment"
    text = safe_name(name)
    # For clients that know no filename*: accents go, what remains beyond ASCII
    # becomes "_".
    base = "".join(
        each for each in unicodedata.normalize("NFD", text) if not unicodedata.combining(each)
    )
    plain = _NOT_PLAIN.sub("_", base).lstrip(".") or _UNNAMED
    if plain == text:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(text, safe=_ATTR_CHAR)}"
