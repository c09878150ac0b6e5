"""``POST /``: the files of a browser's form, streamed into the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from multipart import MultipartError, PushMultipartParser, parse_options_header

from dtfc.errors import BadInput
from dtfc.names import check_name
from dtfc.web.ingest import BLOCK, Ingest

if TYPE_CHECKING:
    from dtfc.store.incoming import Stored
    from dtfc.web.body import RequestBody

#: Parts of one form; a browser sends a field or a file in each.
MOST_PARTS = 1000


def boundary_of(content_type: str | None) -> str | None:
    """Return the boundary of a ``multipart/form-data`` body; None if it is another type.

    Raises:
        BadInput: it is a form, but names no boundary that RFC 2046 allows.
    """
    kind, options = parse_options_header(content_type or "")
    if kind.lower() != "multipart/form-data":
        return None
    boundary: str = options.get("boundary", "")
    if not boundary or len(boundary) > 70 or not boundary.isascii():
        raise BadInput("the form's Content-Type names no usable boundary")
    return boundary


async def store_files(
    body: RequestBody, boundary: str, new_ingest: Callable[[], Ingest]
) -> AsyncIterator[Stored]:
    """Store each file of a form as it arrives.

    Fields that are no files, and file inputs left empty, are passed over. A
    file that was yielded is durable, whatever happens to those after it.

    Args:
        body: the form.
        boundary: from its Content-Type.
        new_ingest: makes the way into the store for one file.

    Yields:
        Each file, once it is stored.

    Raises:
        BadInput: the form is malformed or cut short.
        DtfcError: whatever stopped a file.
    """
    parser = PushMultipartParser(boundary, max_segment_count=MOST_PARTS)
    part = _Part()
    try:
        more = True
        while more:
            blocks = await body.read(BLOCK)
            more = bool(blocks)
            for event in _events(parser, blocks):
                if event is None:
                    stored = await part.end()
                    if stored is not None:
                        yield stored
                elif isinstance(event, (bytes, bytearray)):
                    part.pieces.append(bytes(event))
                elif event.filename:
                    await part.begin(new_ingest(), _base_name(event.filename))
            await part.flush()
    finally:
        part.close()


class _Part:
    """The part of a form that is arriving: a file, or something passed over."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._ingest: Ingest | None = None
        self._name = ""

    async def begin(self, ingest: Ingest, name: str) -> None:
        self._ingest = ingest
        self._name = name
        await ingest.open(None)

    async def flush(self) -> None:
        pieces, self.pieces = self.pieces, []
        if self._ingest is not None and pieces:
            await self._ingest.write(pieces)

    async def end(self) -> Stored | None:
        await self.flush()
        if self._ingest is None:
            return None
        stored = await self._ingest.commit(self._name)
        self.close()
        return stored

    def close(self) -> None:
        ingest, self._ingest = self._ingest, None
        if ingest is not None:
            ingest.close()


def _events(parser: Any, blocks: list[bytes]) -> Any:
    try:
        for block in blocks:
            yield from parser.parse(block)
        if not blocks:
            parser.close()
    except MultipartError as error:
        # The library adds what it met inside; that is for nobody's eyes.
        raise BadInput(f"the form is malformed: {error.args[0]}") from None


def _base_name(given: str) -> str:
    """Return the last part of a path: old browsers send whole paths (RFC 7578 section 4.2)."""
    return check_name(given.replace("\\", "/").rpartition("/")[2])
