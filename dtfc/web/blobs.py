"""GET and HEAD of blobs; ``dtfc.web.storing`` has PUT, POST and DELETE."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from dtfc.access.tokens import Target
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import Disk, Lane
from dtfc.errors import (
    Absent,
    Corrupt,
    DtfcError,
    PeersUnreached,
    Retracted,
    StoreFailure,
)
from dtfc.http.preconditions import Representation
from dtfc.http.problems import (
    not_found,
    precondition_failed,
    range_not_satisfiable,
)
from dtfc.http.ranges import Plan, Span, plan
from dtfc.integrity.reading import Reading
from dtfc.media_types import content_type, is_safe_inline
from dtfc.names import check_name
from dtfc.store.chunkmap import CHUNK, ChunkMap
from dtfc.web.chunkmaps import map_of, send_map
from dtfc.web.fields import BY_ALL, EMBEDDING, Fields, caching, content_fields, validator_fields
from dtfc.web.holding import Holding
from dtfc.web.hotblobs import HotBlob, HotBlobs
from dtfc.web.loading import LoadSource, Trust
from dtfc.web.receivers import Admitted
from dtfc.web.source import BlobSource, Heal
from dtfc.web.storing import Storing
from dtfc.web.stubs import JSON, described, json_of
from dtfc.web.transmit import send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dtfc.http.links import Mirror
    from dtfc.integrity.upkeep import Upkeep
    from dtfc.peers.loader import Load, Loader, RemoteInfo
    from dtfc.store.blobs import BlobInfo, Store
    from dtfc.store.records import Record
    from dtfc.web.gate import Gate
    from dtfc.web.metalink import Links
    from dtfc.web.receivers import Bound
    from dtfc.web.request import Request
    from dtfc.web.smallputs import SmallPuts
    from dtfc.web.transmit import Source

_OF_NOTHING = Digest.of(b"")


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms blobs are taken and given.

    Args:
        max_body: most bytes of one blob; None for no limit.
        max_age: seconds for which caches may keep a blob. What a digest names
            cannot change, so by default a year (RFC 8246); a deletion here does
            not reach such caches.
        max_ranges: most ranges in one answer.
        loading_ranges: what the end of a part waits for while its blob is loaded.
    """

    max_body: int | None = None
    max_age: int = 31536000
    max_ranges: int = 16
    loading_ranges: Trust = Trust.MAP


class Blobs:
    """The answers to requests for blobs.

    Args:
        store: this node's blobs.
        disk: where blocking work runs.
        loader: gets from the peers what is not here.
        upkeep: verifies and heals what is.
        gate: who may do what.
        terms: replaced as a whole when the configuration is read again.
        hot: where blobs asked for are kept open.
        small_puts: where small blobs are stored in groups; None if nowhere.
        revived: told of a PUT of what had been deleted everywhere.
        bound: says to how many nodes a blob is sent at once; None for any number.

    Attributes:
        storing: the answers to those that store and delete.
        links: says in the heads of answers where else a blob can be had; None if nothing does.
    """

    def __init__(
        self,
        store: Store,
        disk: Disk,
        loader: Loader,
        upkeep: Upkeep,
        gate: Gate,
        *,
        terms: Terms,
        hot: HotBlobs,
        small_puts: SmallPuts | None = None,
        revived: Callable[[Record], None] = lambda _record: None,
        bound: Bound | None = None,
    ) -> None:
        self._store = store
        self._disk = disk
        self._loader = loader
        self._upkeep = upkeep
        self._gate = gate
        self.terms = terms
        self._hot = hot
        self.links: Links | None = None
        self._bound = bound
        self.storing = Storing(
            self,
            store,
            disk,
            loader,
            upkeep,
            gate=gate,
            small_puts=small_puts,
            revived=revived,
        )

    async def admit(self, request: Request, verb: Verb, digest: Digest) -> None:
        """Return if whoever asks may do this with a blob.

        Raises:
            Denied, NoCredentials, BadToken: it may not, by itself or by its names.
            StoreFailure: they cannot be read.
        """
        needed = await self._gate.let_in(request, verb, Target(digest.hex))
        if needed is None:
            return
        try:
            info = await self._disk.run(self._store.stat, digest)
        except Absent:
            # How it is called elsewhere is for nobody here to vouch for.
            self._gate.check_names(needed, ())
        else:
            self._gate.check_names(needed, info.names)

    async def admit_reader(self, request: Request, digest: Digest) -> None:
        """Return if whoever asks may read a blob, or what is said of it.

        Raises:
            DtfcError: as :meth:`admit`.
        """
        await self.admit(request, Verb.HEAD if request.method == b"HEAD" else Verb.GET, digest)

    # -- reading ------------------------------------------------------------

    async def get(self, request: Request, digest: Digest, *, ask_peers: bool) -> None:
        """Answer GET and HEAD of a blob; load it first if it is not here."""
        head_only = request.method == b"HEAD"
        await self.admit_reader(request, digest)
        holding = Holding(self._store, self._disk, self._upkeep.checks)
        request.cache = "here"
        try:
            if await self._sent(request, digest, holding, ask_peers=ask_peers):
                return
            request.cache = "loaded"
            if head_only:
                request.cache = "asked"
                await self._head_of_remote(request, digest)
                return
            if not await self._sent_while_it_comes(request, digest, holding.lane):
                await self._send(request, digest, holding, ask_peers=ask_peers)
        except Absent:
            request.cache = "absent"
            raise
        except PeersUnreached:
            request.cache = "unreached"
            raise
        finally:
            holding.close()

    async def _sent(
        self, request: Request, digest: Digest, holding: Holding, *, ask_peers: bool
    ) -> bool:
        """Answer with a blob that is here; False if it has to be loaded first.

        Raises:
            DtfcError: as :meth:`_send`, where asking the peers would be wrong.
        """
        try:
            await self._send(request, digest, holding, ask_peers=ask_peers)
        except Absent as absent:
            if not absent.deleted and not ask_peers and _accepts_partial(request):
                return await self._sent_to_peer(request, digest, holding.lane, absent)
            if absent.deleted or not ask_peers:
                raise
            return False
        except Corrupt:
            # It is in quarantine by now: as good as absent. If something of it
            # has left, there is only one way to say so.
            if request.startedWriting or not ask_peers:
                raise
            return False
        return True

    async def _sent_while_it_comes(self, request: Request, digest: Digest, lane: Lane) -> bool:
        """Load a blob, and answer with it meanwhile; False if it is here now, and nothing was sent.

        Raises:
            Corrupt: nobody has it but this node, and its copy is damaged.
            Retracted: a peer lied, and some of that had left.
            DtfcError: as the loader says.
        """
        try:
            with self._loader.ensure(digest) as load:
                source = await self._source_of(load, self._upkeep.healing.heal)
                if source is not None:
                    try:
                        trust = self.terms.loading_ranges
                        if await self._passed_on(request, digest, lane, load, source, trust):
                            return True
                    finally:
                        lane.run(source.close)
                await load.finished()
                return False
        except Absent as absent:
            await self._raise_if_damaged(digest, absent)
            raise

    async def _raise_if_damaged(self, digest: Digest, absent: Absent) -> None:
        """Say that nobody has it but this node, and its copy is damaged, if that is so.

        Raises:
            Corrupt: it is.
        """
        if not absent.deleted and await self._disk.run(self._store.repair.is_quarantined, digest):
            raise Corrupt(digest.hex) from absent

    async def _sent_to_peer(
        self, request: Request, digest: Digest, lane: Lane, absent: Absent
    ) -> bool:
        """Answer a peer with what is being loaded here, as it comes and is compared.

        Nothing is loaded because a peer asks.

        Raises:
            Absent: it is not being loaded either.
            Retracted: it was wrong, and some of that had left.
            DtfcError: as the loader says.
        """
        load = self._loader.loading(digest)
        if load is None:
            raise absent
        request.cache = "loading"
        with load:
            source = await self._source_of(load, self._upkeep.healing.heal_later)
            if source is not None:
                try:
                    if await self._passed_on(request, digest, lane, load, source, Trust.PEER):
                        return True
                finally:
                    lane.run(source.close)
            await load.finished()
        holding = Holding(self._store, self._disk, self._upkeep.checks)
        try:
            await self._send(request, digest, holding, ask_peers=False)
        finally:
            holding.close()
        return True

    async def _source_of(self, load: Load, heal: Heal) -> LoadSource | None:
        """Return what can be sent of a load; None if it has to be waited for.

        Raises:
            DtfcError: as the load says.
        """
        length = await load.sized()
        # Of one chunk all is held back anyway.
        if length <= CHUNK or load.here:
            return None
        upkeep = self._upkeep

        def stored(fd: int) -> BlobSource:
            reading = Reading(upkeep.checks, load.digest, fd, length)
            return BlobSource(reading, heal, upkeep.clock)

        try:
            return LoadSource(load, load.fd, length, upkeep.checks.resident, stored)
        except LookupError:
            return None  # another process loads it, and its file is not ours

    async def _passed_on(  # noqa: PLR0917 -- one answer, two callers
        self,
        request: Request,
        digest: Digest,
        lane: Lane,
        load: Load,
        source: LoadSource,
        trust: Trust,
    ) -> bool:
        """Answer with what comes; False if it was wrong, and nothing had left."""
        planned = self._planned(request, digest, source.length, None, load.name)
        spans = [part for part in planned.parts if isinstance(part, Span)]
        span = spans[0] if spans else None
        source.answers(spans, trust)
        try:
            # While the peers can turn out to lie there can be another answer.
            if span is not None:
                first = source.step(span.start, min(span.length, CHUNK - span.start % CHUNK))
                await source.prepare(lane, span.start, first)
            elif planned.status == 416:
                return False
        except Retracted:
            return False
        with self._let_in(request, digest, planned.parts, source) as sent:
            if self._begin(request, digest, planned, source.length, None, load.name):
                if source.provisional:
                    # What rests on the word of peers is for this client, not for caches.
                    request.put("Cache-Control", "no-store")
                await send(request, lane, sent, planned.parts)
                request.finish()
        return True

    def _let_in(
        self, request: Request, digest: Digest, parts: Sequence[bytes | Span], source: Source
    ) -> Admitted:
        """Return how to send a blob; a node among too many is sent nothing.

        Raises:
            GivesWay: it is to ask elsewhere, or later.
        """
        if self._bound is None:
            return Admitted(source)
        return self._bound.let_in(request, digest, parts, source)

    async def _send(
        self, request: Request, digest: Digest, holding: Holding, *, ask_peers: bool
    ) -> None:
        """Answer with a blob that is here.

        Raises:
            Absent, Denied, StoreFailure: as the store says.
            Corrupt: it is damaged, and no peer could help.
        """
        info, reading = await holding.open(digest)
        # Who asks for /nopeerload is a peer: to ask it in turn would be a loop.
        heal = self._upkeep.healing.heal if ask_peers else self._upkeep.healing.heal_later
        if not info.length and digest != _OF_NOTHING and reading.verifies:
            # Cut off to nothing: no chunk of it would ever be looked at.
            await heal(reading, None)
        source = BlobSource(reading, heal, self._upkeep.clock)
        stored_at = int(info.stored_at)
        planned = self._planned(request, digest, info.length, stored_at, info.name)
        doubtful = planned.status == 416
        if request.method == b"HEAD" and reading.verifies:
            doubtful = await holding.lane.run(self._was_longer, info)
        if doubtful:
            # "It has no such bytes", or so many, is said of the blob, not of what
            # is left of it.
            first = min(info.length, CHUNK)
            if first and source.ready(0, first) < 0:
                await source.prepare(holding.lane, 0, first)
        if self.links is not None:
            await self.links.recall(request, digest, info.length)
        if not self._begin(request, digest, planned, info.length, stored_at, info.name):
            return
        with self._let_in(request, digest, planned.parts, source) as sent:
            # The first bytes are made ready before the head leaves: while they can
            # turn out to be wrong, there can be another answer.
            span = next((part for part in planned.parts if isinstance(part, Span)), None)
            if span is not None:
                first = min(span.length, CHUNK - span.start % CHUNK)
                if sent.ready(span.start, first) < 0:
                    await sent.prepare(holding.lane, span.start, first)
            await send(request, holding.lane, sent, planned.parts)
            request.finish()
        if self.links is not None:
            self.links.look_for_more(request, digest, info.length)
        await self._keep_hot(request, digest, info.length)

    def _was_longer(self, info: BlobInfo) -> bool:
        """Whether the catalog knows another length: nobody looks at the bytes for a HEAD."""
        try:
            return self._store.catalog.length_of(info.digest) not in (None, info.length)
        except StoreFailure:
            return False

    async def _keep_hot(self, request: Request, digest: Digest, length: int) -> None:
        """Keep a blob open whose GET the fast lane could have answered."""
        key = digest.hex.encode("ascii")
        if request.method != b"GET" or request.head.query or self._hot.has(key):
            return
        try:
            # Without Origin: those that have one take the tree.
            told: Fields = [("Vary", "Origin")] if request.site.edge.terms.origins else []
            mirrors = None if self.links is None else self.links.of(digest, length)
            hot = await self._disk.run(self._open_hot, digest, told, mirrors)
        except DtfcError:
            return  # it has gone meanwhile
        if hot is not None:
            self._hot.keep(hot)

    def _open_hot(
        self, digest: Digest, told: Fields, mirrors: tuple[Mirror, ...] | None
    ) -> HotBlob | None:
        watched = self._store.watch(digest)
        if watched is None:
            return None
        try:
            reading = Reading(self._upkeep.checks, digest, watched.fd, watched.info.length)
        except BaseException:
            watched.close()
            raise
        source = BlobSource(reading, self._upkeep.healing.heal, self._upkeep.clock)
        max_age, run = self.terms.max_age, self._disk.run
        return HotBlob(watched, source, max_age, run, told=told, mirrors=mirrors)

    async def remote(self, digest: Digest) -> RemoteInfo:
        """Return what peers say of a blob that is not here.

        Raises:
            Corrupt: nobody has it but this node, and its copy is damaged.
            DtfcError: as the loader says.
        """
        try:
            return await self._loader.probe(digest)
        except Absent as absent:
            await self._raise_if_damaged(digest, absent)
            raise

    async def _head_of_remote(self, request: Request, digest: Digest) -> None:
        """Answer HEAD from what a peer says: nobody asked for the bytes."""
        remote = await self.remote(digest)
        planned = self._planned(request, digest, remote.length, None, remote.name)
        if self._begin(request, digest, planned, remote.length, None, remote.name):
            request.write(b"")
            request.finish()

    def _planned(
        self,
        request: Request,
        digest: Digest,
        length: int,
        stored_at: int | None,
        stored_name: str | None,
    ) -> Plan:
        """Decide what to answer."""
        return plan(
            request.method.decode("ascii"),
            request.field,
            Representation(length, digest.etag, stored_at),
            content_type(name_of(request, stored_name)),
            secrets.token_hex(16),
            most=self.terms.max_ranges,
        )

    def _begin(  # noqa: PLR0917 -- what is known of a blob; two callers
        self,
        request: Request,
        digest: Digest,
        planned: Plan,
        length: int,
        stored_at: int | None,
        stored_name: str | None,
    ) -> bool:
        """Set the head of the answer; False if that was the whole answer."""
        if planned.status == 412:
            request.problem(precondition_failed())
            return False
        if planned.status == 416:
            request.problem(range_not_satisfiable(length))
            return False
        if request.for_all:
            request.put(EMBEDDING, BY_ALL)
        fields = validator_fields(digest, stored_at, self.terms.max_age)
        if planned.status != 304:
            name = name_of(request, stored_name)
            inline = request.query("inline") == "1" and is_safe_inline(content_type(name))
            fields += content_fields(digest, planned, name, inline=inline)
        for field, value in fields:
            request.put(field, value)
        if planned.status != 304 and self.links is not None:
            self.links.put(request, digest, length)
        request.put("Cache-Control", caching(self.terms.max_age, request))
        request.setResponseCode(planned.status)
        if planned.status == 304:
            request.write(b"")
            request.finish()
            return False
        return True

    async def info(self, request: Request, digest: Digest) -> None:
        """Answer what is known here of a blob."""
        await self.admit(request, Verb.GET, digest)
        info = await self._disk.run(self._store.stat, digest)
        verified_at = await self._disk.run(self._store.catalog.verified_at, digest)
        replicas = self.storing.replicas
        told = {
            **described(info),
            "names": list(info.names),
            "stored_at": info.stored_at,
            "last_verified_at": verified_at,
            "replicas": [] if replicas is None else await replicas.known(digest),
            "marker": None,
        }
        request.put("Cache-Control", "no-store")
        request.answer(200, json_of(told), JSON)

    async def chunks(self, request: Request, digest: Digest) -> None:
        """Answer with a blob's chunk map; no peer is asked."""
        await self.admit_reader(request, digest)
        holding = Holding(self._store, self._disk, self._upkeep.checks)
        try:
            try:
                _, reading = await holding.open(digest)
                found = await map_of(reading, holding.lane, self._upkeep)
            except Absent as absent:
                if absent.deleted or not _accepts_partial(request):
                    raise
                found = await self._map_of_load(digest, absent)
            await send_map(request, found, self.terms)
        finally:
            holding.close()

    async def _map_of_load(self, digest: Digest, absent: Absent) -> ChunkMap:
        """Return what the peers say of a blob that is being loaded here.

        Raises:
            Absent: it is not, or they say nothing.
            DtfcError: as the loader says.
        """
        load = self._loader.loading(digest)
        if load is None:
            raise absent
        with load:
            await load.sized()
            load.want_map()
            await load.until(lambda: load.chunk_map is not None)
            found = load.chunk_map
        if found is None:
            raise absent
        return found

    def no_such_url(self, request: Request, name: str) -> None:
        """Tell those who ask for a name how blobs are asked for."""
        problem = not_found(request.path.decode("latin-1"))
        hint = f"a blob is fetched by its digest; /files.json?name={quote(name)} tells it"
        request.problem(replace(problem, detail=f"{problem.detail}; {hint}"))


def _accepts_partial(request: Request) -> bool:
    """Tell whether a peer also takes what is still being loaded here."""
    return request.field("dtfc-partial") == ["wait"]


def name_of(request: Request, stored_name: str | None) -> str | None:
    """Return the name that a request gives a blob; else the one that it has.

    Raises:
        BadName: it cannot be one.
    """
    name = request.query("name")
    return check_name(name) if name is not None else stored_name
