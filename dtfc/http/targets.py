"""What a request is for: the request target and the Host.

Rules of this file: the target is cut into raw bytes and never decoded; the
decoding happens once, where a name is made of it. Of the four forms of
RFC 9112 section 3.2 a server that is no proxy has use for three.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from dtfc.http.fields import BadHead

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*+)([^?]*+)(?:\?(.*+))?")

# RFC 9110 section 4.2.1 with RFC 3986 section 3.2.2, of whose reg-name only
# what DNS, mDNS and container names use is taken: letters, digits, hyphen,
# underscore, in labels of 1 to 63 with an optional dot at the end. Section
# 3.2.2 itself points to the DNS syntax; percent escapes, sub-delims and empty
# labels are refused (an empty label ends in an IDNA error further up).
_LABEL = rb"[0-9A-Za-z_\-]{1,63}+"
_HOST = re.compile(
    rb"(?:(" + _LABEL + rb"(?:\." + _LABEL + rb")*+\.?)|\[([0-9A-Fa-f:.]{2,45})\])"
    rb"(?::([0-9]{0,5}))?"
)
_MAX_NAME = 255
_MAX_PORT = 65535


class Target(NamedTuple):
    """A request target, cut into its parts.

    Args:
        target: path and query as one, or ``*``.
        path: the bytes up to the first ``?``, not decoded.
        query: the bytes after it; None without one.
        authority: host and port of an absolute-form target, which stand above
            the Host field (RFC 9112 section 3.2.2); else None.
    """

    target: bytes
    path: bytes
    query: bytes | None
    authority: bytes | None


def parse_target(method: str, raw: bytes) -> Target:
    """Cut a request target into its parts.

    Args:
        method: one of the methods that dtfc knows.
        raw: the target as sent, visible ASCII. More characters than RFC 3986
            knows are taken (``|``, ``"`` and the like): browsers send them, and
            RFC 9112 section 3.2 only asks to refuse what is not understood.

    Raises:
        BadHead: 400; a form that has no meaning here, a fragment, user
            information, a percent sign that escapes nothing.
    """
    if b"#" in raw:
        raise _bad("a fragment (what follows '#') is never sent to a server")
    if raw.startswith(b"/"):
        path, mark, rest = raw.partition(b"?")
        _check_escapes(path)
        return Target(raw, path, rest if mark else None, None)
    if raw == b"*":
        if method != "OPTIONS":
            raise _bad("'*' stands for the server as a whole and goes with OPTIONS only")
        return Target(raw, raw, None, None)
    absolute = _ABSOLUTE.fullmatch(raw)
    if not absolute:
        raise _bad("it must begin with '/', or be a whole http:// or https:// URL")
    authority, path, query = absolute.groups()
    if b"@" in authority:
        # RFC 9110 section 4.2.4: user information in a URL from elsewhere is an error.
        raise _bad("the URL holds user information (what stands before '@')")
    _check_authority(authority, "host of the URL")
    _check_escapes(path)
    if not path and query is None and method == "OPTIONS":
        # RFC 9112 section 3.2.4.
        return Target(b"*", b"*", None, authority)
    path = path or b"/"
    target = path if query is None else path + b"?" + query
    return Target(target, path, query, authority)


def check_host(value: bytes) -> None:
    """Check the value of a Host field.

    Raises:
        BadHead: 400 (RFC 9112 section 3.2 MUST).
    """
    _check_authority(value, "Host field")


def _check_escapes(path: bytes) -> None:
    if _BAD_ESCAPE.search(path):
        raise _bad("a '%' in the path is not followed by two hexadecimal digits")


def _check_authority(value: bytes, what: str) -> None:
    match = _HOST.fullmatch(value)
    if match:
        name, address, port = match.groups()
        if (
            (name is None or len(name) <= _MAX_NAME)
            and (address is None or _is_ipv6(address))
            and (not port or int(port) <= _MAX_PORT)
        ):
            return
    raise BadHead(
        400,
        "Bad host",
        f"the {what} must be a host name, an IPv4 address or an [IPv6] address, "
        "with ':' and a port up to 65535 or without",
    )


def _is_ipv6(text: bytes) -> bool:
    try:
        ipaddress.IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return True


def _bad(detail: str) -> BadHead:
    return BadHead(400, "Bad request target", f"the request target cannot be used: {detail}")
