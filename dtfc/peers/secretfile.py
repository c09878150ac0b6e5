"""The file with the secrets that nodes share, as the disk has it."""

from __future__ import annotations

from dtfc.access.signatures import Secrets, parse_secrets
from dtfc.errors import BadSetting
from dtfc.guarded import read_guarded

URL_SECRETS = "url-secret-file"
"""The setting that names the secrets of URLs."""

LARGEST_FILE = 64 * 1024
"""A file of more bytes than this is some other file, named by mistake."""


def read_secrets(path: str | None, setting: str = "peer-secret-file") -> Secrets | None:
    """Read the secrets that requests to peers, or URLs, are signed with (blocks).

    Args:
        path: of the file; None if there is none.
        setting: that names it.

    Raises:
        BadSetting: it cannot be read, may be read by everybody, or holds no
            usable secret. What it says holds nothing of the secrets.
    """
    if path is None:
        return None
    text = read_guarded(setting, path, LARGEST_FILE)
    try:
        return parse_secrets(text)
    except ValueError as error:
        raise BadSetting(setting, f"{path}: {error}") from None
