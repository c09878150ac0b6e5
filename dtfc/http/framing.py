"""What the fields of a head say about the message: host, length, connection.

Rules of this file: each function reads one concern from the fields gathered
for it, and refuses what could be read in two ways. A message is framed by at
most one Content-Length, one number, or by ``chunked`` alone. Both together are
refused (RFC 9112 section 6.1 MAY), and so is ``Transfer-Encoding`` on HTTP/1.0
(same section: faulty framing). Empty list elements are refused in it too,
though RFC 9110 section 5.6.1.2 would skip them: no client sends them, and
whoever does wants two readings.
"""

from __future__ import annotations

import re

from dtfc.http.fields import BadHead, elements, is_token
from dtfc.http.targets import check_host

MAX_LENGTH = 2**63 - 1
"""The longest body that can be announced: what a file offset can hold."""

WATCHED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"connection"})
"""The fields, in lower case, that the functions here want to be given."""

Version = tuple[int, int]
Watched = dict[bytes, list[bytes]]
"""Lower-case name to the values of all its lines; names that did not come are left out."""

HTTP_1_0: Version = (1, 0)

_LENGTH_DIGITS = len(str(MAX_LENGTH))
_DIGITS = re.compile(rb"[0-9]++")


def host_of(version: Version, watched: Watched) -> bytes:
    """Return the value of the Host field; empty if an HTTP/1.0 request has none.

    None, several or a bad one MUST be answered with 400 (RFC 9112 section 3.2).
    """
    hosts = watched.get(b"host")
    if hosts is None:
        if version == HTTP_1_0:
            return b""
        raise BadHead(400, "No Host", "an HTTP/1.1 request must have a Host field")
    if len(hosts) > 1:
        raise BadHead(400, "More than one Host", "a request must have one Host field")
    check_host(hosts[0])
    return hosts[0]


def body_of(version: Version, watched: Watched) -> tuple[int | None, bool]:
    """Return the announced length and whether the body is chunked (RFC 9112 section 6.3)."""
    lengths = watched.get(b"content-length")
    codings = watched.get(b"transfer-encoding")
    if codings is not None:
        if version == HTTP_1_0:
            raise _bad_framing("HTTP/1.0 has no Transfer-Encoding")
        if lengths is not None:
            raise _bad_framing("Content-Length and Transfer-Encoding exclude each other")
        _check_codings(elements(codings))
        return None, True
    if lengths is None:
        return None, False
    if len(lengths) > 1:
        raise _bad_framing("there is more than one Content-Length")
    digits = lengths[0]
    if not _DIGITS.fullmatch(digits):
        raise _bad_framing("Content-Length must be one number, in decimal digits only")
    # The digits are counted first: Python refuses, and slowly, to convert
    # very many of them.
    if len(digits) > _LENGTH_DIGITS or int(digits) > MAX_LENGTH:
        raise BadHead(
            413, "Content too large", f"no body of more than {MAX_LENGTH} bytes can be taken"
        )
    return int(digits), False


def _check_codings(codings: list[bytes]) -> None:
    """Let pass ``chunked`` and nothing else (RFC 9112 sections 6.1 and 7)."""
    names = []
    for coding in codings:
        name, semicolon, _ = coding.partition(b";")
        name = name.strip(b" \t").lower()
        if not is_token(name):
            raise _bad_framing("Transfer-Encoding is not a list of coding names")
        if name == b"chunked" and semicolon:
            raise _bad_framing("the chunked coding has no parameters")
        names.append(name)
    if names == [b"chunked"]:
        return
    if b"chunked" in names[:-1]:
        # Section 6.3 MUST: without chunked at the end nobody knows the length.
        raise _bad_framing("chunked must stand once, and last, in Transfer-Encoding")
    raise BadHead(
        501,
        "Transfer coding not implemented",
        "the only transfer coding that this node knows is chunked",
    )


def connection_options(watched: Watched) -> set[bytes]:
    """Return the connection options, in lower case (RFC 9110 section 7.6.1)."""
    values = watched.get(b"connection")
    if values is None:
        return set()
    options = {option.lower() for option in elements(values) if option}
    if not all(map(is_token, options)):
        raise BadHead(400, "Bad header field", "Connection is not a list of names")
    return options


def expects_continue(watched: Watched) -> bool:
    """Tell whether ``100-continue`` is expected (RFC 9110 section 10.1.1)."""
    values = watched.get(b"expect")
    if values is None:
        return False
    expected = {each.lower() for each in elements(values) if each}
    if expected - {b"100-continue"}:
        raise BadHead(
            417, "Expectation failed", "the only expectation that can be met is 100-continue"
        )
    return bool(expected)


def _bad_framing(detail: str) -> BadHead:
    return BadHead(400, "Ambiguous length of the body", detail)
