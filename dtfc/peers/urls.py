"""A URL as treq takes it, and leaves it."""

from __future__ import annotations

from typing import Self

from hyperlink import EncodedURL


class PlainURL(EncodedURL):
    """A URL that is in ASCII and percent-encoded already.

    treq makes one of every URL, and hyperlink then takes an IPv6 address for an
    international name (hyperlink 21.0.0: ``http://[::1]/`` raises).
    """

    def to_uri(self) -> Self:
        """Return the same: it is one."""
        return self


def plain(url: str) -> PlainURL:
    """Return a URL that nothing changes on its way.

    Args:
        url: in ASCII, percent-encoded.
    """
    parts = EncodedURL.from_text(url)
    return PlainURL(
        scheme=parts.scheme,
        host=parts.host,
        path=parts.path,
        query=parts.query,
        port=parts.port,
        rooted=parts.rooted,
    )
