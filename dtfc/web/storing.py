"""PUT, POST and DELETE of blobs.

Rules of this file: what can be refused is refused before a byte of a body is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dtfc.access.tokens import Target
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import (
    Absent,
    BadInput,
    BadSession,
    BadToken,
    Contradiction,
    Corrupt,
    Denied,
    DtfcError,
    NoCredentials,
    TooLarge,
)
from dtfc.http.digests import parse_digest_field, parse_legacy_digest, repr_digest
from dtfc.http.preconditions import Representation, precondition_for_write
from dtfc.http.problems import (
    length_required,
    precondition_failed,
    problem_for,
    unsupported_media_type,
)
from dtfc.store.chunkmap import CHUNK
from dtfc.store.facts import Stored
from dtfc.web.copies import Owed, is_copy
from dtfc.web.entering import admit_entry
from dtfc.web.forms import boundary_of, store_files
from dtfc.web.holding import Holding
from dtfc.web.ingest import Ingest, commit
from dtfc.web.smallputs import LONGEST
from dtfc.web.source import BlobSource
from dtfc.web.stubs import JSON, described, json_of, stub_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dtfc.integrity.upkeep import Upkeep
    from dtfc.peers.loader import Loader
    from dtfc.replicas.owed import Replicas
    from dtfc.store.blobs import Store
    from dtfc.store.records import Record
    from dtfc.web.blobs import Blobs
    from dtfc.web.body import RequestBody
    from dtfc.web.gate import Gate
    from dtfc.web.request import Request
    from dtfc.web.smallputs import SmallPuts

#: Fields that make a write depend on what is there (RFC 9110 section 13.1).
CONDITIONS = ("if-match", "if-none-match", "if-unmodified-since")

#: What a body has to be.
OWN_BYTES = "the file's own bytes"


class Storing:
    """The answers to requests that store and delete blobs.

    Args:
        blobs: says who may do what with one, and on which terms.
        store: this node's blobs.
        disk: where blocking work runs.
        loader: told of what is stored.
        upkeep: verifies what is here already.
        gate: who may do what.
        small_puts: where small blobs are stored in groups; None if nowhere.
        revived: told of a PUT of what had been deleted everywhere.

    Attributes:
        replicas: copies to other nodes what clients store; None if nothing does.
    """

    def __init__(
        self,
        blobs: Blobs,
        store: Store,
        disk: Disk,
        loader: Loader,
        upkeep: Upkeep,
        *,
        gate: Gate,
        small_puts: SmallPuts | None,
        revived: Callable[[Record], None],
    ) -> None:
        self._blobs = blobs
        self._store = store
        self._disk = disk
        self._loader = loader
        self._upkeep = upkeep
        self._gate = gate
        self._small_puts = small_puts
        self._revived = revived
        self.replicas: Replicas | None = None

    async def put(self, request: Request, name: str | None, digest: Digest | None) -> None:
        """Store the body of a PUT; everything that can be refused is refused before it."""
        target = Target(None if digest is None else digest.hex, name)
        if self._gate.admit(request, Verb.PUT, target) is not None:
            await self._gate.ask_couchdb(request, Verb.PUT, target)
        if _refused_body(request):
            return
        deliberate = not is_copy(request)
        owed = Owed(self.replicas if deliberate else None)
        owed.admit()
        request.site.callers.begin_upload(request)
        expected, sha256 = _promised(request, digest)
        if await self._failed_precondition(request, "PUT", expected):
            return
        if not deliberate:
            await self._admit_copy(expected)
        length = request.body.length
        entering = await admit_entry(request, self._gate, name, length, copy=not deliberate)
        # Who waits for 100 Continue is told first whether there is room, and need not send
        # what is here.
        waits = request.head.expects_continue
        kept = None
        if waits and deliberate and expected is not None and sha256 is None:
            kept = await self.kept(request, expected, name, length)
        small = sha256 is None and not waits
        if kept is not None:
            stored = kept
        elif small and length is not None and length <= LONGEST:
            stored = await self._put_small(
                request.body, length, name, expected, deliberate=deliberate
            )
        else:
            if expected is not None:
                await self._disk.run(self._store.may_store, expected)
            ingest = self._new_ingest()
            try:
                await ingest.open(length, want_sha256=sha256 is not None)
                await ingest.receive(request.body)
                stored = await ingest.commit(
                    name, digest=expected, sha256=sha256, deliberate=deliberate
                )
            finally:
                ingest.close()
        stored_digest = stored.info.digest
        self.has_stored(stored)
        stub = stub_of(stored, name)
        await owed.note(stored.info, stub)
        await owed.settle()
        request.put("Location", f"/{stored_digest}")
        request.put("ETag", stored_digest.etag)
        request.put("Repr-Digest", repr_digest(stored_digest))
        if entering is not None and not await entering.entered(stub):
            return
        request.answer(201 if stored.new else 200, json_of(stub), JSON)

    async def kept(
        self, request: Request, digest: Digest, name: str | None, length: int | None
    ) -> Stored | None:
        """Store a blob again that is here, without its bytes; None if they have to come.

        To know a digest is no proof of having the bytes, so whoever asks must be
        allowed to read them; and they are verified here as they would be for that.

        Raises:
            BadName, NoSpace, StoreFailure: it cannot be stored again.
        """
        for_all = request.for_all
        holding = Holding(self._store, self._disk, self._upkeep.checks)
        try:
            await self._blobs.admit(request, Verb.GET, digest)
            info, reading = await holding.open(digest)
            if length not in (None, info.length):
                return None
            source = BlobSource(reading, self._upkeep.healing.heal, self._upkeep.clock)
            for at in range(0, info.length, CHUNK):
                count = min(CHUNK, info.length - at)
                if source.ready(at, count) < 0:
                    await source.prepare(holding.lane, at, count)
            info = await holding.lane.run(self._store.store_again, digest, name)
        except (Absent, Corrupt, Denied, NoCredentials, BadToken, BadSession):
            return None
        finally:
            holding.close()
            request.for_all = for_all
        return Stored(info, new=False)

    async def owe_again(self, owed: Owed, stub: dict[str, Any]) -> None:
        """Note once more that copies are owed of a blob, unless it is not here any more.

        Raises:
            StoreFailure: it cannot be noted.
        """
        if self.replicas is None:
            return
        try:
            info = await self._disk.run(self._store.stat, Digest.from_hex(stub["sha512"]))
        except (Absent, Denied):
            return
        await owed.note(info, stub)

    async def _admit_copy(self, digest: Digest | None) -> None:
        """Refuse a copy of what was deleted, before its body.

        Raises:
            StaysDeleted: it was.
            BadInput: the copy does not say of what it is one.
            Denied, StoreFailure: as the store says.
        """
        if digest is None:
            raise BadInput("a copy (DTFC-Replica) says in its URL which digest it has")
        await self._disk.run(self._store.may_copy, digest)

    def has_stored(self, stored: Stored) -> None:
        """Tell those who have to know."""
        self._loader.stored(stored.info.digest)
        if stored.revival is not None:
            self._revived(stored.revival)

    async def _put_small(
        self,
        body: RequestBody,
        length: int,
        name: str | None,
        expected: Digest | None,
        *,
        deliberate: bool,
    ) -> Stored:
        """Store a body that fits in memory: in a group, or else in one trip to the disk.

        Raises:
            TooLarge, WrongDigest, Denied, StaysDeleted, NoSpace, StoreFailure:
                nothing is stored.
        """
        limit = self._blobs.terms.max_body
        if limit is not None and length > limit:
            raise TooLarge(limit, "--max-body")
        blocks = await body.read(length)
        whole = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        if self._small_puts is not None:
            stored = await self._small_puts.put(whole, name, expected)
            if stored is not None:
                return stored
        return await self._disk.run(
            _store_whole, self._store, whole, name, expected, deliberate=deliberate
        )

    async def post(self, request: Request) -> None:
        """Store the files of a form."""
        await self._gate.let_in(request, Verb.PUT)
        if _refused_body(request):
            return
        given = (request.field("content-type") or [""])[-1]
        boundary = boundary_of(given)
        if boundary is None:
            request.problem(unsupported_media_type(given, "a form (multipart/form-data)"))
            return
        owed = Owed(self.replicas)
        owed.admit()
        request.site.callers.begin_upload(request)
        stubs: list[dict[str, Any]] = []
        new = False
        try:
            async for stored in store_files(request.body, boundary, self._new_ingest):
                self.has_stored(stored)
                stub = stub_of(stored, stored.info.name)
                stubs.append(stub)
                new = new or stored.new
                await owed.note(stored.info, stub)
            await owed.settle()
        except DtfcError as error:
            if not stubs:
                raise
            # What is stored stays stored: the client is told which files.
            request.problem(problem_for(error).with_members(stored=stubs))
            return
        if not stubs:
            raise BadInput("the form holds no file")
        request.answer(201 if new else 200, json_of(stubs), JSON)

    async def delete(self, request: Request, digest: Digest) -> None:
        """Delete a blob here."""
        if not await self.may_delete(request, digest):
            return
        deleted = await self._disk.run(self._store.delete, digest)
        if self.replicas is not None:
            await self.replicas.forget(digest)
        if deleted.info is None:
            raise Absent(digest.hex, deleted=True)
        request.answer(200, json_of({"deleted": True, **described(deleted.info)}), JSON)

    async def may_delete(self, request: Request, digest: Digest) -> bool:
        """Look whether a blob may be deleted, here or everywhere; False if 412 was answered.

        Raises:
            Denied: whoever asks may not.
        """
        await self._blobs.admit(request, Verb.DELETE, digest)
        return not await self._failed_precondition(request, "DELETE", digest)

    def _new_ingest(self) -> Ingest:
        return Ingest(self._store, self._disk, self._blobs.terms.max_body)

    async def _failed_precondition(
        self, request: Request, method: str, digest: Digest | None
    ) -> bool:
        """Answer 412 where a precondition says so; without one nothing is looked up."""
        if not any(map(request.field, CONDITIONS)):
            return False
        existing = None
        if digest is not None:
            try:
                info = await self._disk.run(self._store.stat, digest)
                existing = Representation(info.length, digest.etag, int(info.stored_at))
            except Absent:
                pass
        if precondition_for_write(method, request.field, existing) is None:
            return False
        request.problem(precondition_failed())
        return True


def _store_whole(
    store: Store, body: bytes, name: str | None, digest: Digest | None, *, deliberate: bool
) -> Stored:
    intake = store.intake(len(body))
    try:
        intake.write([body])
        return commit(intake, name, digest=digest, deliberate=deliberate)
    finally:
        intake.discard()


def _promised(request: Request, digest: Digest | None) -> tuple[Digest | None, bytes | None]:
    """Return the SHA-512 and SHA-256 that the client says its body has.

    Raises:
        Contradiction: the URL and the header fields do not agree.
        BadInput: a malformed field.
    """
    sha256: bytes | None = None
    for found in (
        parse_digest_field(request.field("repr-digest")),
        parse_digest_field(request.field("content-digest")),
        parse_legacy_digest(request.field("digest")),
    ):
        raw = found.get("sha-512")
        if raw is not None:
            promised = Digest(raw)
            if digest is not None and digest != promised:
                raise Contradiction("sha-512", digest.hex, promised.hex)
            digest = promised
        raw = found.get("sha-256")
        if raw is not None:
            if sha256 is not None and sha256 != raw:
                raise Contradiction("sha-256", sha256.hex(), raw.hex())
            sha256 = raw
    return digest, sha256


def _refused_body(request: Request) -> bool:
    """Answer a body that is none, is a part of one, or is coded.

    Raises:
        BadInput: it is a part.
    """
    if not request.head.chunked and request.head.content_length is None:
        # Empty by RFC 9112 section 6.3, but more likely a client's mistake than
        # the wish to store the empty file; that is Content-Length: 0.
        request.problem(length_required())
        return True
    if request.field("content-range"):
        # RFC 9110 section 14.5: a server without partial PUT must not store a part.
        raise BadInput("PUT stores whole files; Content-Range is not taken")
    coding = coding_of(request)
    if coding:
        request.problem(unsupported_media_type(coding, OWN_BYTES))
        return True
    return False


def coding_of(request: Request) -> str:
    """Return how a body is coded; empty if it is a file's own bytes, which alone are taken."""
    codings = [value.strip().lower() for value in request.field("content-encoding")]
    return ", ".join(codings) if any(coding != "identity" for coding in codings) else ""
