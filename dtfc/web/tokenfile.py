"""The file with the tokens, as the disk has it."""

from __future__ import annotations

from dtfc.access.tokens import Tokens, parse_tokens
from dtfc.errors import BadSetting, BadSettings
from dtfc.guarded import WRITABLE, read_guarded

LARGEST_FILE = 1024 * 1024
"""A file of more bytes than this is some other file, named by mistake."""


def read_tokens(path: str | None) -> Tokens:
    """Read the tokens (blocks). It has their hashes, so it may be read by everybody.

    Args:
        path: of the file; None if there is none.

    Raises:
        BadSettings: each line that makes no sense; or it cannot be read, or could
            have been written by others.
    """
    if path is None:
        return Tokens()
    try:
        content = read_guarded("tokens", path, LARGEST_FILE, WRITABLE)
    except BadSetting as error:
        raise BadSettings([error]) from None
    tokens, bad = parse_tokens(content.decode("utf-8", errors="replace"))
    if bad:
        raise BadSettings(BadSetting(f"{path}:{number}", reason) for number, reason in bad)
    return tokens
