"""What must never be in a log: anything that lets somebody in."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"dtfc_[A-Za-z0-9_-]{24,}"  # a token
    r"|(?i:bearer|basic) +[A-Za-z0-9._~+/=-]{8,}"
    r"|AuthSession=[^;\s]{4,}"
    r"|[?&]sig=(?!-(?:[\s&\"\\]|$))[A-Za-z0-9_%-]{4,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|secret-(?:ada|bea|root)\b"  # passwords of the CouchDB that stands in for one
)


def leaks(text: str) -> list[str]:
    """Return what of a text would let somebody in."""
    return [found[0] for found in _SECRETS.finditer(text)]
