"""The file name that a peer gives with a blob: Content-Disposition, read with care.

Rules of this file: pure. A name is a courtesy, so whatever makes no sense is no
name, and never an error: the blob is the same without it. What is taken passes
``dtfc.names.check_name`` like every other name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from dtfc.errors import BadName
from dtfc.names import check_name

_LONGEST_FIELD = 4096

# RFC 6266 section 4.1, RFC 9110 section 5.6: a token or a quoted string.
_TYPE = re.compile(r"\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*")
_PARAMETER = re.compile(
    r";\s*(?P<key>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s;"]+))\s*',
    re.DOTALL,
)
# RFC 8187 section 3.2.1. ISO-8859-1 was dropped there, and dtfc never sends it.
_EXTENDED = re.compile(
    r"UTF-8'[A-Za-z0-9-]*'(?P<value>(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-Fa-f]{2})+)\Z", re.IGNORECASE
)


def file_name(values: Sequence[str]) -> str | None:
    """Return the file name in a Content-Disposition field.

    Args:
        values: every value of the field, decoded as Latin-1.

    Returns:
        A name that may be kept; None if there is none.
    """
    if len(values) != 1 or len(values[0]) > _LONGEST_FIELD:
        return None
    parameters = _parameters(values[0])
    # RFC 6266 section 4.3: the extended form wins where both are there.
    for name in (_extended(parameters.get("filename*")), _plain(parameters.get("filename"))):
        if name is not None:
            try:
                return check_name(name)
            except BadName:
                continue
    return None


def _parameters(value: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    match = _TYPE.match(value)
    while match is not None and match.end() < len(value):
        match = _PARAMETER.match(value, match.end())
        if match is None:
            return {}
        text = match["token"]
        if text is None:
            text = re.sub(r"\\(.)", r"\1", match["quoted"], flags=re.DOTALL)
        parameters.setdefault(match["key"].lower(), text)
    return parameters


def _extended(text: str | None) -> str | None:
    match = _EXTENDED.match(text) if text is not None else None
    return _utf8(unquote_to_bytes(match["value"])) if match is not None else None


def _plain(text: str | None) -> str | None:
    # Raw UTF-8 is what servers that know no RFC 8187 send.
    return _utf8(text.encode("latin-1")) if text is not None and _is_latin(text) else None


def _is_latin(text: str) -> bool:
    return all(character <= "\xff" for character in text)


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
