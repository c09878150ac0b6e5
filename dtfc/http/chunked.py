"""The chunked transfer coding, decoded as it comes (RFC 9112 section 7.1).

Rules of this file: no I/O, no clock. Body bytes pass through as pieces of what
was fed; only lines are kept, and each line is bounded. Nothing is mended: no
sign, no ``0x``, no blanks around a size, no bare LF, nothing but CR LF after
the data of a chunk.

Extensions and tiny chunks. Both are legal and both let a sender make a server
work for bytes that carry nothing; section 7.1.1 asks to bound extensions as
other parts of a message are bounded. All that is not data (size lines and the
CR LF after data) is counted, and may at each size line be no more than
`ChunkLimits.spare_bytes` plus the bytes of data that came before it. Chunks
of 5 bytes and more pass for ever; some 4000 chunks of a single byte pass too,
and no client that sends a file comes near either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dtfc.http.fields import TOKEN, BadMessage, field_lines

# Section 7.1.1; the blanks are its "bad whitespace", which MUST be taken.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]++|\\[\t \x21-\x7e\x80-\xff])*+"'
_VALUE = rb"(?:" + TOKEN + rb"|" + _QUOTED + rb")"
_EXTENSION = rb"[ \t]*+;[ \t]*+" + TOKEN + rb"(?:[ \t]*+=[ \t]*+" + _VALUE + rb")?+"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:" + _EXTENSION + rb")*+\r\n")
_STRAY = "lines end with CR LF, and neither stands alone"
_SMALL = 4096
"""Pieces shorter than this are joined with their neighbours: one copy of few
bytes is cheaper than a list of crumbs for everyone who comes after."""


class BadChunk(BadMessage):
    """The chunked body cannot be taken; the connection ends with it."""


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How much a chunked body may hold besides its data.

    Args:
        line_bytes: a size line with its extensions, without its CR LF; more is 400.
        spare_bytes: what may come in size lines beyond the number of bytes of
            data; more is 400.
        trailer_bytes: all trailer lines with their CR LF and the empty line at
            the end; more is 431.
        trailer_fields: trailer lines; more is 431.
    """

    line_bytes: int = 1024
    spare_bytes: int = 16384
    trailer_bytes: int = 8192
    trailer_fields: int = 50


class ChunkedDecoder:
    """Decodes one chunked body.

    Trailers are checked as field lines are and then forgotten (section 7.1.2
    lets a recipient discard them).

    Args:
        limits: how much there may be besides the data.
    """

    def __init__(self, limits: ChunkLimits | None = None) -> None:
        self._limits = limits or ChunkLimits()
        self._failure: BadChunk | None = None
        self._line = bytearray()  # a line that is not whole yet
        self._left = 0  # data bytes of the running chunk still to come
        self._closing = b""  # what of the CR LF after the data is still to come
        self._trailers = False
        self._trailer_bytes = 0
        self._trailer_fields = 0
        self._data = 0
        self._overhead = 0
        self._rest = b""
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the body is complete, trailers included."""
        return self._done

    @property
    def rest(self) -> bytes:
        """What came after the body: the beginning of the next request."""
        return self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came and return the body bytes in it, in order.

        Args:
            data: any number of bytes. A call that brings nothing but data of
                one chunk gives this very object back.

        Raises:
            BadChunk: 400, or 431 for too many trailers. The body bytes before
                the fault, if they came in the same call, are lost with it;
                every later call raises it again.
        """
        if self._failure is not None:
            raise self._failure
        pieces: list[bytes] = []
        try:
            self._decode(data, pieces)
        except BadChunk as failure:
            self._failure = failure
            self._line.clear()
            raise
        return pieces if len(pieces) < 2 else _join_small(pieces)

    def _decode(self, data: bytes, pieces: list[bytes]) -> None:
        at = 0
        end = len(data)
        while at < end:
            if self._left:
                piece = data[at : at + self._left]  # the same object if it is all of it
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._data += len(piece)
            elif self._closing:
                came = data[at : at + len(self._closing)]
                if not self._closing.startswith(came):
                    raise _bad("the data of a chunk is longer than its size, or lacks its CR LF")
                self._closing = self._closing[len(came) :]
                at += len(came)
            elif self._done:
                self._rest += data[at:]
                return
            elif self._trailers:
                at = self._read_trailer(data, at)
            else:
                at = self._read_size(data, at)

    def _read_size(self, data: bytes, at: int) -> int:
        """Read a size line, or what is here of it; return where to go on."""
        most = self._limits.line_bytes + 2
        # Most lines come whole; they are matched where they stand.
        match = None if self._line else _SIZE_LINE.match(data, at, at + most)
        if match:
            at = match.end()
            length = at - match.start()
        else:
            line, at = self._take_line(data, at, most)
            if line is None:
                if len(self._line) >= most:
                    raise _bad(f"the line with a chunk's size is over {most - 2} bytes long")
                return at
            match = _SIZE_LINE.fullmatch(line)
            if not match:
                raise _bad(
                    "a chunk begins with its size, 1 to 16 hexadecimal digits, "
                    "and well-formed extensions or none"
                )
            length = len(line)
        size = int(match[1], 16)
        self._overhead += length
        if size:
            self._overhead += 2
            self._left = size
            self._closing = b"\r\n"
        else:
            self._trailers = True
        if self._overhead > self._limits.spare_bytes + self._data:
            raise _bad("there is far more framing (extensions, tiny chunks) than data")
        return at

    def _read_trailer(self, data: bytes, at: int) -> int:
        """Read a trailer line or the empty line at the end; return where to go on."""
        most = self._limits.trailer_bytes - self._trailer_bytes
        line, at = self._take_line(data, at, most)
        if line is None:
            if len(self._line) >= most:
                raise BadChunk(
                    431,
                    "Trailers too large",
                    f"the trailers are over {self._limits.trailer_bytes} bytes long",
                )
            return at
        if line == b"\r\n":
            self._done = True
            return at
        self._trailer_bytes += len(line)
        self._trailer_fields += 1
        if self._trailer_fields > self._limits.trailer_fields:
            raise BadChunk(
                431,
                "Too many trailers",
                f"a request may have {self._limits.trailer_fields} trailers",
            )
        fields = field_lines(line)
        if isinstance(fields, str):
            raise BadChunk(400, "Bad trailer", fields)
        return at

    def _take_line(self, data: bytes, at: int, most: int) -> tuple[bytes | None, int]:
        """Take bytes up to the end of the line, or ``most`` in all.

        Returns:
            The line with its CR LF, or None if it is not whole yet; and the
            position after what was taken.
        """
        line = self._line
        seen = len(line)
        stop = at + most - seen
        newline = data.find(b"\n", at, stop)
        if newline < 0:
            line += data[at:stop]
        else:
            line += data[at : newline + 1]
        # Only what is new is searched, and the CR that was last before it.
        cr = line.find(b"\r", max(seen - 1, 0))
        if newline < 0:
            if 0 <= cr < len(line) - 1:
                raise _bad(_STRAY)
            return None, min(stop, len(data))
        if cr < 0 or cr != len(line) - 2:
            raise _bad(_STRAY)
        whole = bytes(line)
        line.clear()
        return whole, newline + 1


def _join_small(pieces: list[bytes]) -> list[bytes]:
    joined: list[bytes] = []
    run: list[bytes] = []
    for piece in pieces:
        if len(piece) < _SMALL:
            run.append(piece)
            continue
        if run:
            joined.append(b"".join(run))
            run = []
        joined.append(piece)
    if run:
        joined.append(b"".join(run))
    return joined


def _bad(detail: str) -> BadChunk:
    return BadChunk(400, "Bad chunked body", detail)
