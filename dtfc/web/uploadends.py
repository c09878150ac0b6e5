"""How an upload ends: as a blob, and with an answer that says which.

Rules of this file: an upload becomes a blob once, though its client leaves
meanwhile; what its client is told of that is kept with it, for a client that
did not hear it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from dtfc.digest import Digest
from dtfc.errors import BadInput, Denied, NoSpace, StoreFailure
from dtfc.http.digests import repr_digest
from dtfc.web.dialects import Progress
from dtfc.web.stubs import JSON, json_of, stub_of

if TYPE_CHECKING:
    from dtfc.store.facts import Stored
    from dtfc.store.upload import Upload
    from dtfc.store.uploadstate import Announced, Known
    from dtfc.web.blobs import Blobs
    from dtfc.web.copies import Owed
    from dtfc.web.dialects import Dialect
    from dtfc.web.entering import Entering
    from dtfc.web.request import Request
    from dtfc.web.uploading import Held, Uploading

_log = Logger()

#: A member of what is passed on here: whether the blob was not here before.
_NEW = "new"


@dataclass(slots=True)
class Turn:
    """A request about an upload.

    Args:
        request: the request.
        dialect: how its client speaks of uploads.
        owed: the copies that it brings about.
        entering: enters the file in a document; None if none is to refer to it.
        goes_on: whether its client says that more comes, though all bytes may be here.
    """

    request: Request
    dialect: Dialect
    owed: Owed
    entering: Entering | None = None
    goes_on: bool = False

    def say(self, progress: Progress) -> None:
        """Say in the answer's head how the upload is."""
        for name, value in self.dialect.fields(progress):
            self.request.put(name, value)


class Ends:
    """Makes blobs of uploads that are complete.

    Args:
        blobs: where they become blobs.
        uploading: who is at which.
        expires: tells when an upload is gone that is touched now, in seconds since 1970.
        check_length: raises for a whole that is too large.
    """

    def __init__(
        self,
        blobs: Blobs,
        uploading: Uploading,
        expires: Callable[[], float],
        check_length: Callable[[int], None],
    ) -> None:
        self._blobs = blobs
        self._uploading = uploading
        self._expires = expires
        self._check_length = check_length

    def progress(self, upload: Upload) -> Progress:
        """Return how an upload is."""
        told = upload.known.announced
        return Progress(
            offset=upload.offset,
            length=upload.length,
            complete=upload.known.over or (told.is_part and upload.complete),
            metadata=told.metadata,
            is_part=told.is_part,
            parts=tuple(f"/uploads/{each}" for each in told.parts),
            expires=self._expires(),
        )

    async def stub_of(self, turn: Turn, held: Held) -> dict[str, Any] | None:
        """Make a blob of an upload that is complete; None if it is not, or is only a part.

        Returns:
            What its client is answered.

        Raises:
            WrongDigest: it is not what was promised; the upload is gone.
            Denied: an operator's marker forbids it; likewise.
            NoSpace, StoreFailure: as the operating system says.
        """
        upload = held.upload
        if not upload.complete or upload.known.announced.is_part:
            return None
        if upload.known.stored is not None:
            stub = dict(upload.known.stored)
            # Whoever heard that there were too few copies asks again until there are enough.
            await self._blobs.storing.owe_again(turn.owed, stub)
            return stub
        return await held.finish(self._make_blob(held, turn.owed))

    async def _make_blob(self, held: Held, owed: Owed) -> dict[str, Any]:
        upload = held.upload
        # Whoever was told of an offset must find it again, whatever comes of the rest.
        await held.lane.run(upload.sync)
        try:
            stored: Stored = await held.lane.run(upload.enter)
        except Denied:
            # Nobody will ever have it.
            await held.lane.run(upload.discard)
            raise
        self._blobs.storing.has_stored(stored)
        stub = stub_of(stored, upload.known.announced.name)
        await owed.note(stored.info, stub)
        try:
            await held.lane.run(upload.is_stored, dict(stub))
        except (NoSpace, StoreFailure) as error:
            # The blob is durable, and whoever asks for the upload again finds it.
            _log.error("noting the end of an upload: {error}", error=str(error))
        stub[_NEW] = stored.new
        return stub

    async def finished(self, turn: Turn, held: Held, url: str = "") -> bool:
        """Make a blob of an upload that is complete, and answer; False if more has to come.

        Args:
            turn: whom to answer.
            held: the upload.
            url: where it is, if it was only just begun.

        Raises:
            DtfcError: as :meth:`stub_of`, and what became of copies and documents.
        """
        stub = None if turn.goes_on else await self.stub_of(turn, held)
        if stub is None:
            return False
        await self.tell(turn, stub, self.progress(held.upload), url)
        return True

    @staticmethod
    async def tell(turn: Turn, stub: dict[str, Any], progress: Progress, url: str) -> None:
        """Answer that an upload is a blob.

        Args:
            turn: whom to answer.
            stub: what is known of the blob.
            progress: the upload.
            url: where it is, if it was only just begun.

        Raises:
            DtfcError: as :meth:`dtfc.web.copies.Owed.settle`.
        """
        request = turn.request
        new = stub.pop(_NEW, False)
        await turn.owed.settle()
        point_to(request, stub, field="Content-Location" if turn.dialect.is_tus else "Location")
        turn.say(progress)
        if turn.entering is not None and not await turn.entering.entered(stub):
            return
        if not turn.dialect.is_tus:
            request.answer(201 if new else 200, json_of(stub), JSON)
            return
        if url:
            request.put("Location", url)
        request.answer(201 if url else 204)

    async def join(self, turn: Turn, announced: Announced, known: Sequence[Known]) -> None:
        """Make one upload, and a blob, of several parts, and answer.

        Args:
            turn: whom to answer.
            announced: what it is to be; its parts have different ids.
            known: what is known of each part.

        Raises:
            BadInput: they cannot be joined.
            DtfcError: as :meth:`finished`.
        """
        if len(set(announced.parts)) != len(announced.parts):
            raise BadInput("a part is joined once")
        before = known[0].joined
        if before is not None and all(each.joined == before for each in known):
            # The same again: its answer was lost.
            held = await self._uploading.take(before)
            if held.upload.known.announced.parts == announced.parts:
                await self._tell_joined(turn, held)
                return
            self._uploading.release(held)
        parts: dict[str, Held] = {}
        try:
            # In one order for all: two that want the same ones never wait for each other.
            for name in sorted(announced.parts):
                parts[name] = await self._uploading.take(name)
            held = await self._joined(announced, [parts[each].upload for each in announced.parts])
            await self._tell_joined(turn, held, fresh=True)
            for part in parts.values():
                await part.lane.run(part.upload.joined_in, held.name)
        finally:
            for part in parts.values():
                self._uploading.release(part)

    async def _joined(self, announced: Announced, parts: Sequence[Upload]) -> Held:
        if not all(each.known.announced.is_part for each in parts):
            raise BadInput("only uploads that were begun as parts are joined")
        if not all(each.complete and each.known.joined is None for each in parts):
            raise BadInput("a part is not complete, or was joined with others")
        length = sum(each.offset for each in parts)
        self._check_length(length)
        whole = replace(announced, length=length)
        held = await self._uploading.create(lambda: self._uploading.uploads.create(whole))
        try:
            for each in parts:
                await held.lane.run(each.read_into, held.upload)
        except BaseException:
            held.give_up()
            self._uploading.release(held)
            raise
        return held

    async def _tell_joined(self, turn: Turn, held: Held, *, fresh: bool = False) -> None:
        try:
            await self.finished(turn, held, url_of(turn.request, held.name))
        except BaseException:
            if fresh:
                # Nobody was told of it, and its parts have all that it has: to join them
                # again would make another copy each time.
                held.give_up()
            raise
        finally:
            self._uploading.release(held)


def url_of(request: Request, name: str) -> str:
    """Return where an upload is; a document that is to refer to it stays in its query."""
    query = request.head.query
    carried = f"?{query.decode('ascii')}" if query and request.query("db") is not None else ""
    return f"/uploads/{name}{carried}"


def point_to(request: Request, stub: dict[str, Any], *, field: str = "Content-Location") -> None:
    """Say in an answer's head which blob it is about."""
    digest = Digest.from_hex(stub["sha512"])
    request.put(field, f"/{digest}")
    request.put("ETag", digest.etag)
    request.put("Repr-Digest", repr_digest(digest))
