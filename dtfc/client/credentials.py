"""What a client shows a node to say who it is.

Rules of this file: pure. No credential is in any repr, message or log.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*\Z")


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A token (RFC 6750): one of the node's, or a JSON Web Token of CouchDB's.

    Args:
        secret: the token itself.

    Raises:
        ValueError: it is none.
    """

    secret: str

    def __post_init__(self) -> None:
        if not _TOKEN.match(self.secret):
            raise ValueError("this is no token: letters, digits and -._~+/ are what it has")

    def field(self) -> tuple[str, str]:
        """Return the header field that shows it."""
        return "Authorization", f"Bearer {self.secret}"


@dataclass(frozen=True, slots=True, repr=False)
class Password:
    """Name and password of a user of CouchDB's.

    Args:
        user: the name.
        secret: the password.

    Raises:
        ValueError: the name has a colon or is empty.
    """

    user: str
    secret: str

    def __post_init__(self) -> None:
        if not self.user or ":" in self.user:
            raise ValueError("a user's name is not empty and has no colon")

    def field(self) -> tuple[str, str]:
        """Return the header field that shows it (RFC 7617)."""
        pair = f"{self.user}:{self.secret}".encode()
        return "Authorization", f"Basic {base64.b64encode(pair).decode('ascii')}"


@dataclass(frozen=True, slots=True, repr=False)
class Cookie:
    """A session's cookie.

    Args:
        secret: ``AuthSession=...``, as the server set it.

    Raises:
        ValueError: it is none.
    """

    secret: str

    def __post_init__(self) -> None:
        if not _COOKIE.match(self.secret):
            raise ValueError("this is no cookie: NAME=VALUE is what it looks like")

    def field(self) -> tuple[str, str]:
        """Return the header field that shows it."""
        return "Cookie", self.secret


Credential = Token | Password | Cookie
