"""Request heads: the request line and the header section.

Rules of this file: no I/O, no clock. Bytes are fed as they come, a head comes
out when it is whole, and what is wrong is raised at the first byte that proves
it, so the answer does not depend on how the network cut the bytes. Every byte
is looked at once; never more is kept than was fed since the last head.

Strictness (RFC 9112 unless said otherwise). A refusal always ends the
connection, because after it nobody knows where the next request begins.

- One empty line before a request line is skipped (section 2.2 SHOULD); a
  second one is refused.
- Bare CR, bare LF and NUL are refused as soon as they come (section 2.2 lets
  a bare LF pass as a line end; proxies differ, so it does not here).
- The request line is judged when its line ends, everything else at the end of
  the head. Blanks are single (section 3, without the lenient reading).
- HTTP/1.2 to 1.9 are answered as 1.1 (RFC 9110 section 2.5); another major
  version is 505.
- What frames the body is in `dtfc.http.framing`.
- HTTP/1.0 connections are always closed after the answer: its keep-alive is
  optional (section 9.3 and appendix C.2.2) and not safe behind proxies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dtfc.http.fields import (
    TOKEN,
    BadHead,
    BadMessage,
    field_lines,
    is_token,
    judged,
    stray,
)
from dtfc.http.framing import (
    HTTP_1_0,
    WATCHED,
    Version,
    Watched,
    body_of,
    connection_options,
    expects_continue,
    host_of,
)
from dtfc.http.targets import parse_target

__all__ = ["METHODS", "BadHead", "BadMessage", "HeadReader", "Limits", "RequestHead"]

METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"})
"""The methods that a head may have; any other is answered with 501."""

_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])")
_FIRST = re.compile(TOKEN)
_CR, _LF, _TLS_RECORD = 0x0D, 0x0A, 0x16


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a head may hold.

    Args:
        head_bytes: the whole head, its empty line included; more is 431.
        line_bytes: the request line, without its CR LF; more is 414.
        fields: field lines; more is 431.
    """

    head_bytes: int = 16384
    line_bytes: int = 8192
    fields: int = 100


@dataclass(frozen=True, slots=True)
class RequestHead:
    """One request, as its head tells it.

    Args:
        method: one of `METHODS`.
        target: path and query, not decoded, or ``*``.
        path: ``target`` up to the first ``?``.
        query: what follows it; None without one. Not checked: a bad escape in
            it is for whoever reads it.
        version: (1, 0) or (1, 1).
        fields: names as sent and values without the blanks around them, in order.
        host: host and port that the request is for: of an absolute-form target,
            else of the Host field; empty if an HTTP/1.0 request has neither.
        content_length: the number announced; None without one.
        chunked: the body comes in chunks.
        expects_continue: the client waits for ``100 Continue`` before it sends
            the body. Never set without a body, nor on HTTP/1.0.
        close: the connection ends after the answer.
    """

    method: str
    target: bytes
    path: bytes
    query: bytes | None
    version: Version
    fields: list[tuple[bytes, bytes]]
    host: bytes
    content_length: int | None
    chunked: bool
    expects_continue: bool
    close: bool

    @property
    def has_body(self) -> bool:
        """Whether at least one byte of body framing follows the head."""
        return self.chunked or bool(self.content_length)


class HeadReader:
    """Finds and parses heads in what a client sends, for a connection's whole life.

    Feed it, then call `next` until it returns None. After a head with a body,
    `take_rest` hands over what is already here of the body; what follows the
    body is fed again.

    Args:
        limits: how much a head may hold.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buffer = bytearray()
        self._failure: BadHead | None = None
        self._reset()

    def _reset(self) -> None:
        self._begun = False
        self._blank_skipped = False
        self._scanned = 0  # everything before it is known to hold no stray byte
        self._line_end = 0  # where the CR LF of the request line stands
        self._line: tuple[str, bytes, Version] | None = None

    @property
    def started(self) -> bool:
        """Whether bytes of a head that is not whole yet are here.

        Ask after `next` has returned None: the empty line that may stand before
        a request line is gone by then and does not count.
        """
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add what came. Nothing is kept once a head was refused."""
        if self._failure is None:
            self._buffer += data

    def take_rest(self) -> bytes:
        """Hand over, and forget, everything after the last head that came out."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._reset()
        return rest

    def next(self) -> RequestHead | None:
        """Return the next head, or None if it is not whole yet.

        Raises:
            BadHead: what came is not a head that can be answered otherwise;
                every later call raises it again.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if self._line is None:
                self._read_line()
            if self._line is not None:
                return self._read_fields(*self._line)
        except BadHead as failure:
            self._failure = failure
            self._buffer.clear()
            raise
        return None

    def _read_line(self) -> None:
        """Parse the request line if it is whole."""
        buffer = self._buffer
        if not self._begun and not self._begin():
            return
        most = self._limits.line_bytes
        have = len(buffer)
        end = buffer.find(b"\r\n", self._scanned, most + 2)
        if end < 0:
            self._scan(min(have, most + 1))
            # One byte more than allowed is enough to know, unless it is the CR
            # that ends the line.
            if have > most + 1 or (have == most + 1 and buffer[most] != _CR):
                raise BadHead(
                    414, "Request line too long", f"the request line is over {most} bytes long"
                )
            return
        self._scan(end + 2)
        self._line = _parse_line(bytes(buffer[:end]))
        self._line_end = end

    def _begin(self) -> bool:
        """Skip one empty line and look at the first byte; False: not here yet."""
        buffer = self._buffer
        if not self._blank_skipped and buffer[:1] == b"\r":
            if len(buffer) == 1:
                return False
            if buffer[1] == _LF:
                del buffer[:2]
                self._blank_skipped = True
        if not buffer:
            return False
        if not _FIRST.match(buffer):
            first = buffer[0]
            if first == _TLS_RECORD:
                detail = "this port speaks plain HTTP, and what came looks like TLS (https)"
            elif first in (_CR, _LF):
                detail = "there is an empty line, or half of one, where the request should begin"
            else:
                detail = "a request begins with the name of its method"
            raise BadHead(400, "This is not an HTTP request", detail)
        self._begun = True
        return True

    def _read_fields(self, method: str, raw_target: bytes, version: Version) -> RequestHead | None:
        """Parse the rest of the head if it is whole."""
        buffer = self._buffer
        most = self._limits.head_bytes
        line_end = self._line_end
        end = buffer.find(b"\r\n\r\n", max(line_end, self._scanned - 3), most)
        if end < 0:
            self._scan(min(len(buffer), most))
            if len(buffer) >= most:
                raise BadHead(
                    431, "Head too large", f"the request's head is over {most} bytes long"
                )
            return None
        self._scan(end + 4)
        block = bytes(buffer[line_end + 2 : end + 2])
        if block.count(b"\n") > self._limits.fields:
            raise BadHead(
                431, "Too many fields", f"a request may have {self._limits.fields} fields"
            )
        fields = field_lines(block)
        if isinstance(fields, str):
            raise BadHead(400, "Bad header field", fields)
        head = _make_head(method, raw_target, version, fields)
        del buffer[: end + 4]
        self._reset()
        return head

    def _scan(self, end: int) -> None:
        """Refuse stray bytes between what was scanned and ``end``."""
        start = self._scanned
        found = stray(self._buffer, start, end)
        if found:
            raise BadHead(
                400, "Stray control character", f"byte {found[0]} of the head is {found[1]}"
            )
        self._scanned = judged(self._buffer, start, end)


def _parse_line(line: bytes) -> tuple[str, bytes, Version]:
    match = _LINE.fullmatch(line)
    if not match:
        raise BadHead(400, "Bad request line", _what_is_wrong(line))
    method, target, major, minor = match.groups()
    if major != b"1":
        raise BadHead(
            505,
            "HTTP version not supported",
            f"this port speaks HTTP/1.1 and HTTP/1.0, not HTTP/{major.decode()}",
        )
    return method.decode("ascii"), target, ((1, 0) if minor == b"0" else (1, 1))


def _what_is_wrong(line: bytes) -> str:
    parts = line.split(b" ")
    if not is_token(parts[0]):
        return "the method holds a character that no method may have"
    if len(parts) != 3:
        return (
            "it must be the method, one blank, the target, one blank and the version, "
            "with no blank inside or around"
        )
    if not re.fullmatch(rb"[\x21-\x7e]+", parts[1]):
        return "the target is empty or holds bytes that are not visible ASCII; escape them with %"
    return "the version must be written as HTTP/1.1"


def _make_head(
    method: str, raw_target: bytes, version: Version, fields: list[tuple[bytes, bytes]]
) -> RequestHead:
    watched: Watched = {}
    for name, value in fields:
        key = name.lower()
        if key in WATCHED:
            watched.setdefault(key, []).append(value)
    host = host_of(version, watched)
    content_length, chunked = body_of(version, watched)
    options = connection_options(watched)
    if method not in METHODS:
        # The target of an unknown method may have a form of its own (CONNECT's
        # has), so it is not looked at.
        raise BadHead(
            501, "Method not implemented", f"{method[:64]} is not a method that this node knows"
        )
    target = parse_target(method, raw_target)
    expects = expects_continue(watched)
    has_body = chunked or bool(content_length)
    return RequestHead(
        method=method,
        target=target.target,
        path=target.path,
        query=target.query,
        version=version,
        fields=fields,
        host=host if target.authority is None else target.authority,
        content_length=content_length,
        chunked=chunked,
        # RFC 9110 section 10.1.1: HTTP/1.0 clients do not mean it.
        expects_continue=expects and has_body and version != HTTP_1_0,
        close=version == HTTP_1_0 or b"close" in options,
    )
