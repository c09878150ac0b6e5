"""The bytes of one load on their way: performs what ``dtfc.peers.pull`` decides.

Rules of this file: each ask is a coroutine of its own, and whatever ends the
transfer ends all of them, and lets go of every response. Bytes go from a peer's
body to the partial in blocks, one disk step each; the next block gathers
meanwhile. All steps on the partial are on one lane, so in order. What the
machine is told of is in the file already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.digest import Digest
from dtfc.disk import Disk, Lane
from dtfc.errors import Absent, NoSpace, PeersUnreached, WrongDigest
from dtfc.http.traces import carried, carrying
from dtfc.peers.body import Body
from dtfc.peers.chunkmaps import fetch_map
from dtfc.peers.client import PeerHTTP, Reply
from dtfc.peers.disposition import file_name
from dtfc.peers.failure import PeerFailure, one_line
from dtfc.peers.pull import Pull
from dtfc.peers.slots import SlotsByName
from dtfc.peers.steps import (
    Accuse,
    Action,
    Answered,
    Ask,
    AskMap,
    Complete,
    Drop,
    Ended,
    Event,
    Failed,
    Finish,
    Got,
    Hashed,
    Lacks,
    Mapped,
    MapWanted,
    NobodyHasIt,
    Note,
    NotReached,
    Outcome,
    Restart,
    Shorten,
    Take,
    TakeBack,
    Trust,
    Verified,
    Verify,
    Wait,
    Waited,
    Wanted,
)
from dtfc.peers.surroundings import Counters, LoadLimits
from dtfc.store.chunkmap import CHUNK, ChunkMap, count_of
from dtfc.store.facts import BlobInfo, Stored
from dtfc.store.spans import Spans

__all__ = ["Counters", "LoadLimits", "Transfer"]

WISHES_EVERY = 0.1
"""Seconds between two looks whether another process wishes for a part."""


_HAS_IT_NOT = (404, 410)
_HAS_IT = (200, 206)


class Named(Protocol):
    """Who knows under which name this node asks: :class:`dtfc.peers.picker.Picker` does."""

    @property
    def one_of_many(self) -> str | None:
        """This node's own URL, where peers want to know it; None if it is nobody's node."""


class Means(Protocol):
    """What a transfer works with: a node's :class:`dtfc.peers.surroundings.Surroundings`."""

    @property
    def disk(self) -> Disk:
        """Where blocking work is done."""

    @property
    def http(self) -> PeerHTTP:
        """Asks peers."""

    @property
    def clock(self) -> IReactorTime:
        """Measures time."""

    @property
    def counters(self) -> Counters:
        """What is counted."""

    @property
    def limits(self) -> LoadLimits:
        """How it is bounded."""

    @property
    def at_peers(self) -> SlotsByName:
        """Places at each peer."""

    @property
    def picker(self) -> Named:
        """Who asks."""

    @property
    def shared(self) -> bool:
        """Whether other processes may wish for what this one loads."""


class Place(Protocol):
    """Where the bytes go: a :class:`dtfc.store.partials.Partial`. All of it blocks."""

    @property
    def behind(self) -> bool:
        """Whether there are more bytes from 0 on than were hashed."""

    def reserve(self, total: int) -> None:
        """Make sure that the whole will fit."""

    def put(self, at: int, blocks: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Write bytes where they belong; return the chunks that are whole now, with hashes."""

    def catch_up(self, most: int = 8) -> list[tuple[int, bytes]]:
        """Hash what is there behind what was hashed; return the new hashes."""

    def trust(self, chunks: Sequence[int]) -> None:
        """Note that chunks are what the peers' maps say."""

    def take_back(self, chunks: Sequence[int]) -> None:
        """Forget chunks that are wrong."""

    def restart(self) -> None:
        """Throw away what is there."""

    def compare(self) -> None:
        """See whether all that is there is the blob."""

    def commit(self, name: str | None) -> Stored:
        """Give the whole its place."""

    def call(self, name: str) -> None:
        """Note the name that a peer gave."""

    def wished(self) -> list[int]:
        """Return the chunks that other processes wish for."""


class Watcher(Protocol):
    """Who is told how a transfer goes."""

    def saw(self, transfer: Transfer) -> None:
        """Something has changed."""

    def took_back(self, chunks: frozenset[int] | None) -> None:
        """Bytes that were there were wrong: those of these chunks, or all."""

    # What is learned of peers (``dtfc.peers.picker``).

    def answered(self, peer: str, seconds: float) -> None:
        """The head of an answer came after so many seconds."""

    def delivered(self, peer: str, count: int, seconds: float) -> None:
        """So many bytes came in so many seconds."""

    def failed(self, peer: str) -> None:
        """It could not be reached, or broke off."""

    def lied(self, peer: str) -> None:
        """It sent what is not the blob."""

    def has(self, peer: str) -> None:
        """It said that it has the blob."""

    def lacks(self, peer: str) -> None:
        """It said that it does not have the blob."""

    def fetched(self, peer: str, result: str) -> None:
        """What became of one request to it: one of :data:`dtfc.peers.health.RESULTS`."""


class _Request:
    """One ask in progress."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.running: Deferred[None] | None = None
        self.reply: Reply | None = None
        self.take: Take | None = None
        self.body: Body | None = None
        self.end: int | None = None
        self.dropped = False
        self.inside = False
        """Whether it is its own doing that is being performed."""
        self.counted = False
        """Whether it was said what became of its body."""

    def let_go(self) -> None:
        """Drop what there is of the response."""
        reply, self.reply = self.reply, None
        body, self.body = self.body, None
        if body is not None:
            body.abort("is not wanted any more")
        elif reply is not None:
            reply.drop()


class Transfer:
    """Brings one blob here.

    Args:
        digest: which blob.
        around: client, clock, counters.
        lane: where the steps on ``partial`` are done, in order.
        partial: where the bytes go.
        held: what it has already.
        length: of the blob, as an earlier process believed it.
        peers: whom to ask, in order.
        ancestors: those of them that are asked also for what they are loading.
        watcher: told after each step.
    """

    _log = Logger()

    def __init__(
        self,
        digest: Digest,
        around: Means,
        lane: Lane,
        partial: Place,
        *,
        held: Spans,
        length: int | None,
        peers: tuple[str, ...],
        ancestors: tuple[str, ...] = (),
        watcher: Watcher,
    ) -> None:
        self.name: str | None = None
        self.resumed = held.total
        self.received = 0
        self.refetched = 0
        self.from_peers: dict[str, int] = {}
        """Bytes written, by the peer that sent them."""
        self.trusted = bytearray()
        """A 1 for each chunk that is as the peers' maps say."""
        self.right = False
        """Whether all bytes are there and have the digest. They may not be durable yet."""
        self._digest = digest
        self._around = around
        self._lane = lane
        # Beside the other one, so that the hashing never waits for a write.
        self._hash_lane = Lane(around.disk)
        self._partial = partial
        self._watcher = watcher
        self._ancestors = frozenset(ancestors)
        self._pull = Pull(
            peers, held, digest.hex, length=length, limits=around.limits.spread, ancestors=ancestors
        )
        self._had = Spans(held)
        """Everything that was ever there: what comes of it comes again."""
        self._requests: dict[int, _Request] = {}
        self._others: set[Deferred[Any]] = set()
        self._timer: IDelayedCall | None = None
        self._wishes: IDelayedCall | None = None
        self._news: dict[int, bytes] = {}
        self._catching_up = False
        self._reserved_for: int | None = None
        self._no_room: NoSpace | None = None
        self._stored: BlobInfo | None = None
        # Fired by the end, whatever it is.
        self._over: Deferred[BlobInfo] = Deferred()
        self._ended = False
        # Of who wanted it first; timers know nothing of it.
        self._trace = carried()

    @property
    def length(self) -> int | None:
        """Of the blob, as a peer said it."""
        return self._pull.length

    @property
    def held(self) -> Spans:
        """Which bytes are in the file."""
        return self._pull.held

    @property
    def chunk_map(self) -> ChunkMap | None:
        """What the peers say of all chunks, if they agree."""
        return None if self._pull.hearsay is None else self._pull.hearsay.any_map()

    def expects(self, chunk: int) -> bool:
        """Tell whether the peers' maps say what a chunk should be."""
        hearsay = self._pull.hearsay
        return hearsay is not None and hearsay.word(chunk) is not None

    async def run(self) -> BlobInfo:
        """Do it.

        Raises:
            Absent: nobody has it, or it was deleted here meanwhile.
            Denied: a marker forbids it.
            PeersUnreached: not every peer could be asked.
            NoSpace, StoreFailure: the disk.
        """
        self._around.counters.resumed_bytes += self.resumed
        try:
            self._perform(self._pull.begin(self._around.clock.seconds()))
            self._watcher.saw(self)
            self._catch_up()
            if self._around.shared:
                self._look_for_wishes()
            return await self._over
        finally:
            self._stop()

    def want(self, start: int, end: int) -> None:
        """Bring these bytes first."""
        self._happened(Wanted(start, end))

    def want_map(self) -> None:
        """Get a chunk map, so that chunks can be compared with it."""
        self._happened(MapWanted())

    def _stop(self) -> None:
        self._ended = True
        counters = self._around.counters
        counters.hedges_won += self._pull.hedges_won
        counters.hedges_lost += self._pull.hedges - self._pull.hedges_won
        for timer in (self._timer, self._wishes):
            if timer is not None:
                timer.cancel()
        self._timer = self._wishes = None
        for request in list(self._requests.values()):
            self._drop(request.ask.number)
        for other in list(self._others):
            other.cancel()

    # -- the machine -------------------------------------------------------------------

    def _happened(self, event: Event) -> None:
        if self._ended:
            return
        self._perform(self._pull.on(event, self._around.clock.seconds()))
        self._watcher.saw(self)

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Ask():
                    self._begin(action)
                case Take(number=number):
                    self._requests[number].take = action
                case Shorten():
                    self._shorten(action)
                case Drop(number=number):
                    self._drop(number)
                case Wait():
                    self._wait(action.seconds)
                case Note():
                    self._note(action)
                case Finish():
                    self._conclude(action.outcome)
                case _:
                    self._perform_on_file(action)

    def _perform_on_file(self, action: Action) -> None:
        match action:
            case AskMap():
                self._do(self._ask_map(action.peer))
            case Trust():
                self._trust(action.chunks)
            case TakeBack():
                self._take_back(action.chunks)
            case Restart():
                self._reserved_for = None
                self._news.clear()
                self.trusted = bytearray()
                self._watcher.took_back(None)
                self._do(self._on_lane(self._partial.restart))
            case Verify():
                self._do(self._verify())
            case Accuse():
                self._watcher.lied(action.peer)
            case Lacks():
                self._watcher.lacks(action.peer)

    def _do(self, coroutine: Any) -> Deferred[None]:
        """Run something beside the asks, until it ends or the transfer does."""
        with carrying(self._trace):
            running: Deferred[None] = Deferred.fromCoroutine(coroutine)
        self._others.add(running)
        running.addErrback(self._fail)
        running.addBoth(lambda _result: self._others.discard(running))
        return running

    def _fail(self, failure: Failure) -> None:
        """End the transfer with an error, unless it is over."""
        if failure.check(CancelledError) and self._ended:
            return
        if not self._over.called:
            self._over.errback(failure)

    async def _on_lane(self, step: Callable[..., Any], *args: Any) -> None:
        await self._lane.run(step, *args)

    def _conclude(self, outcome: Outcome) -> None:
        if self._over.called:
            return
        match outcome:
            case Complete() if self._stored is not None:
                self._over.callback(self._stored)
            case NotReached(reasons, retry_after):
                # A peer may have it, if only it fitted.
                error = self._no_room or PeersUnreached(self._digest.hex, reasons, retry_after)
                self._over.errback(Failure(error))
            case Complete() | NobodyHasIt():
                self._over.errback(Failure(Absent(self._digest.hex, everywhere=True)))

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._around.clock.callLater(seconds, self._waited)

    def _waited(self) -> None:
        self._timer = None
        self._happened(Waited())

    def _note(self, note: Note) -> None:
        self._around.counters.peer_failures += 1
        self._watcher.failed(note.peer)
        self._log.info(
            "{peer}: {reason} (loading {digest}, {ready} bytes are here)",
            peer=note.peer,
            reason=one_line(note.reason),
            digest=self._digest.hex,
            ready=self.held.total,
        )

    # -- an ask -----------------------------------------------------------------------

    def _begin(self, ask: Ask) -> None:
        request = self._requests[ask.number] = _Request(ask)
        with carrying(self._trace):
            request.running = Deferred.fromCoroutine(self._ask(request))
        request.running.addErrback(self._broke, request)

    def _broke(self, failure: Failure, request: _Request) -> None:
        request.let_go()
        if not (failure.check(CancelledError) and request.dropped):
            self._fail(failure)

    def _drop(self, number: int) -> None:
        request = self._requests.pop(number, None)
        if request is None:
            return
        request.dropped = True
        if not request.inside and request.running is not None:
            request.let_go()
            request.running.cancel()

    def _shorten(self, shorten: Shorten) -> None:
        request = self._requests.get(shorten.number)
        if request is not None:
            request.end = shorten.end
            if request.body is not None and request.take is not None:
                request.body.shorten(shorten.end - request.take.at)

    def _tell(self, request: _Request, event: Event) -> None:
        """Report something of an ask, from within its own coroutine."""
        request.inside = True
        try:
            self._happened(event)
        finally:
            request.inside = False

    async def _ask(self, request: _Request) -> None:
        ask = request.ask
        places = self._around.at_peers
        await places.take(ask.peer)
        try:
            await self._ask_now(request)
        finally:
            places.give_back(ask.peer)
            self._requests.pop(ask.number, None)
            request.let_go()

    async def _ask_now(self, request: _Request) -> None:
        ask = request.ask
        clock = self._around.clock
        asked = clock.seconds()
        try:
            reply = await self._around.http.ask(
                "GET",
                ask.peer,
                self._digest.hex,
                ask.start,
                ask.end,
                partial=ask.partial,
                node=self._around.picker.one_of_many,
            )
        except PeerFailure as failure:
            self._watcher.fetched(ask.peer, "unreached")
            self._tell(request, Failed(ask.number, failure.reason))
            return
        request.reply = reply
        self._watcher.answered(ask.peer, clock.seconds() - asked)
        self._tell(request, Answered(ask.number, reply.status, reply.fields))
        if request.take is None or request.dropped:
            self._watcher.fetched(ask.peer, _without_body(reply.status))
            return
        # Else with the first bytes; but other processes look at what this makes.
        first = self._around.shared or not request.take.count
        if first and not await self._reserved(request):
            return
        begun = clock.seconds()
        self._watcher.has(ask.peer)
        self.name = file_name(reply.fields("content-disposition")) or self.name
        if self.name is not None and self._around.shared:
            self._do(self._on_lane(self._partial.call, self.name))
        before = self.from_peers.get(ask.peer, 0)
        try:
            await self._take(request, request.take, reply)
        finally:
            brought = self.from_peers.get(ask.peer, 0) - before
            if not request.counted:
                self._watcher.fetched(ask.peer, "dropped")
            self._watcher.delivered(ask.peer, brought, clock.seconds() - begun)

    async def _take(self, request: _Request, take: Take, reply: Reply) -> None:
        request.reply = None
        body = request.body = reply.take(take.skip, take.count)
        if request.end is not None:
            body.shorten(request.end - take.at)
        at, counted = take.at, 0
        try:
            while blocks := await body.read():
                counted = self._count_received(body, counted)
                total = self._pull.length or 0
                if total == self._reserved_for:
                    found = await self._lane.run(self._partial.put, at, blocks)
                else:
                    # In one trip to the disk: a client waits for the first byte.
                    put = await self._lane.run(self._reserve_and_put, total, at, blocks)
                    if isinstance(put, NoSpace):
                        self._has_no_room(request, total, put)
                        return
                    self._reserved_for, found = total, put
                count = sum(map(len, blocks))
                self._count_written(request.ask.peer, at, at + count)
                at += count
                self._news.update(found)
                self._tell(request, Got(take.number, count))
                self._tell_news(request)
                if request.dropped:
                    return
                self._catch_up()
        finally:
            body.abort("is not wanted any more")
            self._count_received(body, counted)
            self._count_refetched(body.skipped)
        request.counted = True
        self._watcher.fetched(request.ask.peer, "ok" if body.cut is None else "broken")
        if body.surplus:
            self._note(Note(request.ask.peer, "sent more than it had announced"))
        self._tell(request, Ended(take.number, body.cut, broken_off=body.broken_off))

    def _tell_news(self, request: _Request | None = None) -> None:
        """Report the chunks that are whole, once all their bytes were reported."""
        length = self.length
        if length is None:
            return
        for chunk in sorted(self._news):
            end = min((chunk + 1) * CHUNK, length)
            if self.held.has(chunk * CHUNK, end) and chunk in self._news:
                event = Hashed(chunk, self._news.pop(chunk))
                if request is None:
                    self._happened(event)
                else:
                    self._tell(request, event)

    async def _reserved(self, request: _Request) -> bool:
        """Whether there is room; a peer that announces more than fits may be lying."""
        total = self._pull.length or 0
        if total == self._reserved_for:
            return True
        try:
            await self._lane.run(self._partial.reserve, total)
        except NoSpace as error:
            self._has_no_room(request, total, error)
            return False
        self._reserved_for = total
        return not request.dropped

    def _reserve_and_put(
        self, total: int, at: int, blocks: list[bytes]
    ) -> list[tuple[int, bytes]] | NoSpace:
        try:
            self._partial.reserve(total)
        except NoSpace as error:
            return error
        return self._partial.put(at, blocks)

    def _has_no_room(self, request: _Request, total: int, error: NoSpace) -> None:
        self._no_room = error
        reason = f"announced {total} bytes, which do not fit here"
        self._tell(request, Failed(request.ask.number, reason))

    # -- the file ---------------------------------------------------------------------

    def _catch_up(self) -> None:
        """See to it that what lies behind a hole is hashed when the hole is filled."""
        if not self._catching_up and not self._ended and self._partial.behind:
            self._catching_up = True
            self._do(self._catch_up_in_steps())

    async def _catch_up_in_steps(self) -> None:
        try:
            while self._partial.behind:
                self._news.update(await self._hash_lane.run(self._partial.catch_up))
                self._tell_news()
        finally:
            self._catching_up = False

    async def _verify(self) -> None:
        while self._partial.behind:
            self._news.update(await self._hash_lane.run(self._partial.catch_up))
        self._tell_news()
        try:
            await self._lane.run(self._partial.compare)
            # Who waits for the end of it need not wait for the disk as well.
            self.right = True
            self._watcher.saw(self)
            stored = await self._lane.run(self._partial.commit, self.name)
        except WrongDigest:
            self._happened(Verified(right=False))
        else:
            self._stored = stored.info
            self._happened(Verified(right=True))

    def _trust(self, chunks: tuple[int, ...]) -> None:
        if not self.trusted:
            self.trusted = bytearray(count_of(self.length or 0))
        for chunk in chunks:
            self.trusted[chunk] = 1
        if self._around.shared:
            self._do(self._on_lane(self._partial.trust, chunks))

    def _take_back(self, chunks: tuple[int, ...]) -> None:
        self._around.counters.wrong_chunks += len(chunks)
        for chunk in chunks:
            self._news.pop(chunk, None)
            if self.trusted:
                self.trusted[chunk] = 0
        self._watcher.took_back(frozenset(chunks))
        self._do(self._on_lane(self._partial.take_back, chunks))

    async def _ask_map(self, peer: str) -> None:
        length = self.length or 0
        partial = peer in self._ancestors
        found = await fetch_map(self._around.http, peer, self._digest, length, partial=partial)
        self._happened(Mapped(peer, found))

    def _look_for_wishes(self) -> None:
        self._wishes = self._around.clock.callLater(WISHES_EVERY, self._look_once)

    def _look_once(self) -> None:
        self._wishes = None
        self._do(self._take_wishes())

    async def _take_wishes(self) -> None:
        for chunk in await self._lane.run(self._partial.wished):
            self.want(chunk * CHUNK, (chunk + 1) * CHUNK)
            self.want_map()
        if not self._ended:
            self._look_for_wishes()

    # -- counting ---------------------------------------------------------------------

    def _count_received(self, body: Body, counted: int) -> int:
        self.received += body.received - counted
        self._around.counters.received_bytes += body.received - counted
        return body.received

    def _count_written(self, peer: str, start: int, end: int) -> None:
        self.from_peers[peer] = self.from_peers.get(peer, 0) + end - start
        new = sum(stop - begin for begin, stop in self._had.gaps(start, end))
        self._count_refetched(end - start - new)
        self._had.add(start, end)

    def _count_refetched(self, count: int) -> None:
        self.refetched += count
        self._around.counters.refetched_bytes += count


def _without_body(status: int) -> str:
    """Say what became of a request whose answer has no body that is wanted."""
    if status in _HAS_IT_NOT:
        return "absent"
    return "dropped" if status in _HAS_IT else "refused"
