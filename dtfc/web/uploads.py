"""``/uploads/``: uploads that resume, whichever dialect they are spoken of in.

Rules of this file: whoever may PUT may upload, and each request is asked anew.
An upload becomes a blob once; what its client is told of that is kept with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dtfc.access.tokens import Target
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.errors import (
    BadInput,
    Busy,
    DtfcError,
    PartsJoined,
    TooLarge,
    UnknownUpload,
    UploadOver,
    UploadsFull,
    WrongLength,
    WrongOffset,
)
from dtfc.http import tus
from dtfc.http.problems import problem_for
from dtfc.store.uploadstate import Announced, Known
from dtfc.web.copies import Owed
from dtfc.web.dialects import PART, Creation, Part, Progress, WrongType, dialect_of, problem_of
from dtfc.web.entering import admit_entry
from dtfc.web.storing import OWN_BYTES, coding_of
from dtfc.web.stubs import JSON, json_of, stub_of
from dtfc.web.uploadends import Ends, Turn, point_to, url_of

if TYPE_CHECKING:
    from dtfc.disk import Disk
    from dtfc.web.blobs import Blobs
    from dtfc.web.dialects import Dialect
    from dtfc.web.entering import Entering
    from dtfc.web.gate import Gate
    from dtfc.web.request import Request
    from dtfc.web.uploading import Held, Uploading


@dataclass(frozen=True, slots=True)
class UploadTerms:
    """On which terms uploads are taken.

    Args:
        ttl: seconds after which an upload that nobody goes on with is gone.
        most_open: that are open at once.
    """

    ttl: float = 86400.0
    most_open: int = 1000


class UploadPages:
    """The answers below ``/uploads/``.

    Args:
        blobs: where they become blobs.
        uploading: who is at which.
        disk: where blocking work runs.
        gate: who may do what.
        terms: replaced as a whole when the configuration is read again.
        now: tells the seconds since 1970.
    """

    def __init__(
        self,
        blobs: Blobs,
        uploading: Uploading,
        disk: Disk,
        gate: Gate,
        *,
        terms: UploadTerms,
        now: Callable[[], float],
    ) -> None:
        self.terms = terms
        self._blobs = blobs
        self._storing = blobs.storing
        self._uploading = uploading
        self._uploads = uploading.uploads
        self._disk = disk
        self._gate = gate
        self._now = now
        self._ends = Ends(blobs, uploading, lambda: now() + self.terms.ttl, self._check_length)

    # -- requests -----------------------------------------------------------------------

    def options(self, request: Request, methods: str) -> None:
        """Say what is spoken here."""
        most = self._blobs.terms.max_body
        request.put("Allow", methods)
        request.put("Tus-Resumable", tus.VERSION)
        request.put("Tus-Version", tus.VERSION)
        request.put("Tus-Extension", tus.EXTENSIONS)
        request.put("Tus-Checksum-Algorithm", ",".join(tus.CHECKSUMS))
        if most is not None:
            request.put("Tus-Max-Size", str(most))
        request.put("Accept-Patch", f"{PART}, {tus.PART}")
        request.put("Upload-Limit", self._limit())
        request.answer(204)

    async def create(self, request: Request) -> None:
        """Begin an upload."""
        dialect = dialect_of(request)
        await self._answering(request, dialect, self._create(request, dialect))

    async def patch(self, request: Request, name: str) -> None:
        """Add a part."""
        dialect = dialect_of(request)
        await self._answering(request, dialect, self._patch(request, dialect, name))

    async def look(self, request: Request, name: str) -> None:
        """Answer HEAD: how far is it? GET: and what has become of it?"""
        dialect = dialect_of(request)
        answer = self._head if request.method == b"HEAD" else self._tell
        await self._answering(request, dialect, answer(request, dialect, name))

    async def delete(self, request: Request, name: str) -> None:
        """Give an upload up."""
        dialect = dialect_of(request)
        await self._answering(request, dialect, self._delete(request, dialect, name))

    async def post(self, request: Request, name: str) -> None:
        """Do what a POST to an upload stands for, where PATCH and DELETE do not get through."""
        meant = (request.field("x-http-method-override") or [""])[-1].strip().upper()
        dialect = dialect_of(request)
        answers: dict[str, Callable[[Request, Dialect, str], Awaitable[None]]] = {
            "PATCH": self._patch,
            "HEAD": self._head,
            "DELETE": self._delete,
        }
        if meant not in answers:
            raise BadInput(f"a POST to an upload says X-HTTP-Method-Override: {', '.join(answers)}")
        await self._answering(request, dialect, answers[meant](request, dialect, name))

    async def _answering(self, request: Request, dialect: Dialect, answer: Awaitable[None]) -> None:
        request.put("Cache-Control", "no-store")
        try:
            await answer
        except DtfcError as error:
            if request.startedWriting:
                raise
            problem = problem_of(error, problem_for(error))
            if problem.status == 500:
                raise  # the operator has to know as well
            status, fields = dialect.failed(error, problem)
            if isinstance(error, WrongOffset):
                fields = dialect.fields(Progress(error.expected, None, complete=error.complete))
            problem = replace(problem, status=status, fields=(*problem.fields, *fields))
            request.problem(problem)

    # -- creation -----------------------------------------------------------------------

    async def _create(self, request: Request, dialect: Dialect) -> None:
        dialect.check()
        asked = dialect.creation()
        announced = asked.announced
        await self._let_in(request, announced)
        _refuse_coded(request)
        self._check_length(announced.length)
        turn = self._turn(request, dialect, announced)
        if request.body.length != 0:
            request.site.callers.begin_upload(request)
        turn.entering = await self._entering(request, announced)
        if announced.parts:
            known = [await self._look_up(request, name) for name in announced.parts]
            await self._ends.join(turn, announced, known)
            return
        await self._admit_one_more()
        if await self._answered_without_bytes(turn, announced):
            return
        held = await self._uploading.create(lambda: self._uploads.create(announced))
        url = url_of(request, held.name)
        told = False
        try:
            # Nobody but a client that was told where it is can ever go on with it.
            told = dialect.interim() and request.interim(
                104, [*dialect.fields(self._ends.progress(held.upload)), ("Location", url)]
            )
            await self._receive(turn, held, asked)
            if not await self._ends.finished(turn, held, url):
                request.put("Location", url)
                await self._goes_on(turn, held, 201)
        except BaseException:
            if not told:
                held.give_up()
            raise
        finally:
            self._uploading.release(held)

    async def _goes_on(self, turn: Turn, held: Held, status: int) -> None:
        """Answer that more has to come."""
        await held.lane.run(held.upload.sync)
        turn.say(self._ends.progress(held.upload))
        turn.request.put("Upload-Limit", self._limit())
        turn.request.answer(status)

    async def _admit_one_more(self) -> None:
        spool = await self._disk.run(self._uploads.spool)
        if spool.uploads >= self.terms.most_open:
            raise UploadsFull(self.terms.most_open, "--max-open-uploads")

    async def _answered_without_bytes(self, turn: Turn, announced: Announced) -> bool:
        """Answer with a blob that is here already, if its digest was told; else False."""
        if announced.sha512 is None or announced.is_part:
            return False
        digest = Digest.from_hex(announced.sha512)
        stored = await self._storing.kept(turn.request, digest, announced.name, announced.length)
        if stored is None:
            return False
        length = stored.info.length
        announced = replace(announced, length=length)
        stub = stub_of(stored, announced.name)
        await turn.owed.note(stored.info, stub)
        name = await self._disk.run(self._uploads.record, announced, stub)
        progress = Progress(length, length, complete=True)
        await self._ends.tell(turn, stub, progress, url_of(turn.request, name))
        return True

    def _check_length(self, length: int | None) -> None:
        most = self._blobs.terms.max_body
        if most is not None and length is not None and length > most:
            raise TooLarge(most, "--max-body")

    # -- parts --------------------------------------------------------------------------

    async def _patch(self, request: Request, dialect: Dialect, name: str) -> None:
        dialect.check()
        part = dialect.part()
        known = await self._look_up(request, name)
        _refuse_coded(request)
        if known.announced.parts:
            raise PartsJoined
        self._check_length(part.length)
        turn = self._turn(request, dialect, known.announced)
        request.site.callers.begin_upload(request)
        turn.entering = await self._entering(request, known.announced)
        held = await self._uploading.take(name)
        try:
            await self._append(turn, held, part)
            if not await self._ends.finished(turn, held):
                await self._goes_on(turn, held, 204)
        finally:
            self._uploading.release(held)

    async def _append(self, turn: Turn, held: Held, part: Part) -> None:
        upload = held.upload
        if part.offset != upload.offset:
            at = await held.lane.run(upload.sync)
            raise WrongOffset(at, part.offset, complete=upload.known.over)
        if upload.complete and turn.request.body.length != 0:
            raise UploadOver(upload.offset)
        if part.length is not None:
            await held.lane.run(upload.set_length, part.length)
        creation = Creation(upload.known.announced, part.final, part.checksum)
        await self._receive(turn, held, creation)

    async def _receive(self, turn: Turn, held: Held, asked: Creation) -> None:
        """Take the body of a request, whether it is a creation's or a part's."""
        upload, body = held.upload, turn.request.body
        turn.goes_on = asked.final is False
        whole = None if body.length is None else upload.offset + body.length
        if whole is not None:
            self._check_length(whole)
            if upload.length is not None and whole > upload.length:
                raise WrongLength(upload.length, whole)
            await held.lane.run(upload.reserve, body.length or 0)
            if asked.final and upload.length is None:
                await held.lane.run(upload.set_length, whole)
            if asked.final and whole != upload.length:
                raise WrongLength(upload.length or 0, whole)

        def durable(offset: int) -> None:
            if turn.dialect.interim():
                progress = replace(self._ends.progress(upload), offset=offset)
                turn.request.interim(104, turn.dialect.fields(progress))

        if body.length != 0:
            await held.receive(
                body, most=self._blobs.terms.max_body, checksum=asked.checksum, durable=durable
            )
        if asked.final and upload.length is None:
            await held.lane.run(upload.set_length, upload.offset)

    # -- looks --------------------------------------------------------------------------

    async def _head(self, request: Request, dialect: Dialect, name: str) -> None:
        dialect.check()
        known = await self._look_up(request, name)
        turn = self._turn(request, dialect, known.announced)
        held = await self._uploading.take(name)
        try:
            await held.lane.run(held.upload.sync)
            # It may have been cut off between its last byte and its end.
            stub = await self._ends.stub_of(turn, held)
            if stub is not None and not await self._is_entered(turn, known.announced, stub):
                return
            status, fields = dialect.looked(self._ends.progress(held.upload))
            for field, value in fields:
                request.put(field, value)
            if stub is not None:
                point_to(request, stub)
            request.put("Upload-Limit", self._limit())
            request.answer(status)
        finally:
            self._uploading.release(held)

    async def _is_entered(self, turn: Turn, announced: Announced, stub: dict[str, Any]) -> bool:
        """Do what the end does behind the blob; False if that failed, and is answered.

        Whoever sees that all bytes are here need not send another part, which would do it.
        """
        await turn.owed.settle()
        entering = await self._entering(turn.request, announced)
        return entering is None or await entering.entered(stub)

    async def _tell(self, request: Request, _dialect: Dialect, name: str) -> None:
        known = await self._look_up(request, name)
        offset: int | None = None
        try:
            # Whoever is at it is not disturbed by somebody who only looks.
            held = await self._uploading.take(name, patient=False)
        except Busy:
            offset = await self._disk.run(self._uploads.durable, name)
        else:
            try:
                offset = await held.lane.run(held.upload.sync)
                known = held.upload.known
            finally:
                self._uploading.release(held)
        length, now = known.announced.length, self._now()
        # To look renews what is open, but nothing renews what is over.
        touched = (await self._disk.run(self._uploads.look, name)).touched_at if known.over else now
        told = {
            "offset": offset,
            "length": length,
            "complete": known.over or offset == length,
            "expires_at": int(touched + self.terms.ttl),
            "stored": known.stored,
        }
        if known.stored is not None:
            point_to(request, known.stored)
        request.answer(200, json_of(told), JSON)

    async def _delete(self, request: Request, dialect: Dialect, name: str) -> None:
        dialect.check()
        await self._look_up(request, name)
        held = await self._uploading.take(name)
        try:
            await held.lane.run(held.upload.discard)
        finally:
            self._uploading.release(held)
        if dialect.is_tus:
            request.put("Tus-Resumable", tus.VERSION)
        request.answer(204)

    # -----------------------------------------------------------------------------------

    async def _look_up(self, request: Request, name: str) -> Known:
        """Return what is known of an upload, to somebody who may go on with it."""
        if not tus.is_upload_id(name):
            raise UnknownUpload
        found = await self._disk.run(self._uploads.look, name)
        if found.touched_at + self.terms.ttl < self._now():
            await self._disk.run(self._uploads.expire, self._now() - self.terms.ttl)
            raise UnknownUpload
        await self._let_in(request, found.known.announced)
        return found.known

    async def _let_in(self, request: Request, announced: Announced) -> None:
        target = Target(announced.sha512, announced.name)
        if self._gate.admit(request, Verb.PUT, target) is not None:
            await self._gate.ask_couchdb(request, Verb.PUT, target)

    async def _entering(self, request: Request, announced: Announced) -> Entering | None:
        if announced.is_part:
            return None
        return await admit_entry(request, self._gate, announced.name, announced.length, copy=False)

    def _turn(self, request: Request, dialect: Dialect, announced: Announced) -> Turn:
        turn = Turn(request, dialect, Owed(None if announced.is_part else self._storing.replicas))
        turn.owed.admit()
        return turn

    def _limit(self) -> str:
        """Return what is promised to every upload (draft, Upload-Limit)."""
        most = self._blobs.terms.max_body
        told = [] if most is None else [f"max-size={most}"]
        return ", ".join([*told, "min-size=0", f"max-age={int(self.terms.ttl)}"])


def _refuse_coded(request: Request) -> None:
    coding = coding_of(request)
    if coding:
        raise WrongType(coding, OWN_BYTES)
