"""One load of one blob, whoever waits for it.

Rules of this file: it is the only load of that blob on this node. No waiter can
disturb it or another waiter: each has a Deferred of its own. What is on disk so
far outlives everything: a cut, a stop, a kill.

The bytes that have come may be read from ``fd`` while it loads, by whoever takes
care that no answer made of them completes before it should: until the load has
ended no digest vouches for them, and when a peer turns out to have lied they
are taken back (``taken_back``).

While another process of the node loads the blob, this follows it, and takes
over when that process dies or gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtfc.digest import Digest
from dtfc.disk import Lane
from dtfc.errors import Absent, BadInput, Busy, Denied, Draining, DtfcError, PeersUnreached
from dtfc.peers.following import Following
from dtfc.peers.surroundings import Surroundings
from dtfc.peers.transfer import Transfer
from dtfc.store.chunkmap import CHUNK, ChunkMap
from dtfc.store.facts import BlobInfo
from dtfc.store.looking import Watched
from dtfc.store.partials import Partial
from dtfc.store.spans import Spans

FIRST_LOOK = 0.05
"""Seconds until another process's load is looked at again ..."""

LONGEST_LOOK = 1.0
"""... doubled each time, up to this."""


class Register(Protocol):
    """Where a flight learns whom to ask, and tells what it found out."""

    def peers_for(self, digest: Digest) -> tuple[str, ...]:
        """Whom to ask, in order; nobody, if they all said just now that they do not have it."""

    def ancestors_for(self, digest: Digest) -> tuple[str, ...]:
        """Those that are asked also for what they are loading, the first one first."""

    def nobody_has(self, digest: Digest, asked: tuple[str, ...]) -> None:
        """Every one of these said that it does not have it."""

    def answered(self, peer: str, seconds: float) -> None:
        """The head of an answer came after so many seconds."""

    def delivered(self, peer: str, count: int, seconds: float) -> None:
        """So many bytes came in so many seconds."""

    def failed(self, peer: str) -> None:
        """A peer could not be reached, or broke off."""

    def lied(self, peer: str) -> None:
        """A peer sent what is not the blob."""

    def has(self, peer: str, digest: Digest) -> None:
        """A peer said that it has the blob."""

    def lacks(self, peer: str, digest: Digest) -> None:
        """A peer said that it does not have the blob."""

    def fetched(self, peer: str, result: str) -> None:
        """What became of one request to a peer."""

    def landed(self, flight: Flight) -> None:
        """It is over, and nothing of it is open any more."""


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """How a load goes, for people.

    Args:
        digest: of the blob.
        name: that a peer gave; None if none has yet.
        length: of the blob in bytes, as a peer said it.
        held: bytes that are here.
        waiting: clients that wait for it.
        peers: bytes that came, by the peer that sent them.
        elsewhere: whether another process of the node does it.
    """

    digest: Digest
    name: str | None
    length: int | None
    held: int
    waiting: int
    peers: Mapping[str, int]
    elsewhere: bool


class Flight:
    """One load.

    Args:
        digest: which blob.
        around: store, disk, client, clock, counters.
        register: of all flights.
    """

    _log = Logger()

    def __init__(self, digest: Digest, around: Surroundings, register: Register) -> None:
        self.digest = digest
        self.length: int | None = None
        """Of the blob, as a peer said it; certain once the blob is here."""
        self.name: str | None = None
        """The file name a peer gave."""
        self.taken_back: list[frozenset[int] | None] = []
        """What had come and was wrong, in the order in which that was found: chunks, or all."""
        self.holders = 0
        """Clients that have not left."""
        self.stopping: DtfcError | None = None
        """Why it is being given up, if it is."""
        self.landed = False
        """Whether it is over and nothing of it is open."""
        self._around = around
        self._register = register
        self._lane = Lane(around.disk)
        self._partial: Partial | None = None
        self._watched: Watched | None = None
        self._view: Transfer | Following | None = None
        self._most = 0
        """Bytes that were there at once, also if they were wrong."""
        self._wanted = Spans()
        self._map_wanted = False
        self._absorbed = False
        self._taken_over = Spans()
        self._result: BlobInfo | None = None
        self._error: Exception | None = None
        self._waiters: dict[Deferred[None], Callable[[], bool]] = {}
        self._at_landing: list[Deferred[None]] = []
        self._telling = False
        self._letting_go = False
        self._unwanted = False
        self._running: Deferred[None] | None = None

    def status(self) -> LoadStatus:
        """Say how it goes."""
        view = self._view
        return LoadStatus(
            self.digest,
            self.name,
            self.length,
            0 if view is None else view.held.total,
            self.holders,
            dict(view.from_peers) if isinstance(view, Transfer) else {},
            elsewhere=isinstance(view, Following),
        )

    # What clients call.

    @property
    def fd(self) -> int:
        """The file that grows, for reading.

        Raises:
            LookupError: it is not open: not yet, or not any more.
        """
        if self._partial is not None:
            return self._partial.fd
        if self._watched is not None:
            return self._watched.fd
        raise LookupError("this load has no file open")

    @property
    def here(self) -> bool:
        """Whether the blob is in the store."""
        return self._result is not None

    @property
    def right(self) -> bool:
        """Whether all bytes are in the file and have the digest; they may not be durable yet."""
        return self.here or (isinstance(self._view, Transfer) and self._view.right)

    def sha256_of(self, chunk: int) -> bytes | None:
        """The SHA-256 of a chunk as it came; None if that is not known here. For any thread."""
        partial = self._partial
        return None if partial is None else partial.sha256_of(chunk)

    @property
    def ready(self) -> int:
        """The bytes ``[0, ready)`` are in the file."""
        return self.held_to(0)

    def held_to(self, offset: int) -> int:
        """Return up to where bytes are there without a gap from ``offset`` on."""
        if self.here:
            return max(offset, self.length or 0)
        return offset if self._view is None else self._view.held.reach(offset)

    def trusted(self, start: int, end: int) -> bool:
        """Tell whether all chunks that these bytes lie in are as the peers' maps say."""
        if self.here or start >= end:
            return True
        flags = b"" if self._view is None else self._view.trusted
        first, last = start // CHUNK, -(-end // CHUNK)
        part = flags[first:last]
        # Of this process' own 1 is right, in the file of another one 2 is.
        right = b"\2" if isinstance(self._view, Following) else b"\1"
        return len(part) == last - first and part.count(right) == len(part)

    @property
    def chunk_map(self) -> ChunkMap | None:
        """What the peers say of all chunks, if they agree."""
        return self._view.chunk_map if isinstance(self._view, Transfer) else None

    def to_be_compared(self, offset: int) -> bool:
        """Tell whether the peers' maps say what the chunk should be that a byte lies in."""
        return isinstance(self._view, Transfer) and self._view.expects(offset // CHUNK)

    def want(self, start: int, end: int) -> None:
        """Bring these bytes first."""
        if self._wanted.has(start, end):
            return
        self._wanted.add(start, end)
        if self._view is not None:
            self._view.want(start, end)

    def want_map(self) -> None:
        """Get a chunk map from a peer, if there is one, so that :meth:`trusted` can say yes."""
        if not self._map_wanted:
            self._map_wanted = True
            if self._view is not None:
                self._view.want_map()

    async def sized(self) -> int:
        """Wait until a peer has said the length; raises what :meth:`until` raises."""
        await self.until(lambda: self.length is not None)
        return self.length or 0

    async def wait_for(self, end: int) -> None:
        """Wait until the bytes ``[0, end)`` can be read; raises what :meth:`until` raises.

        Raises:
            BadInput: the blob has not so many.
        """
        await self.until(lambda: self.ready >= end)
        if self.ready < end:
            raise BadInput(f"the blob has {self.ready} bytes, not {end}")

    async def finished(self) -> BlobInfo:
        """Wait until the blob is here; raises what :meth:`until` raises."""
        await self.until(lambda: False)
        if self._result is None:
            raise Absent(self.digest.hex)
        return self._result

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so, or the blob is here.

        Args:
            reached: looked at after every step of the load.

        Raises:
            Absent: nobody has it, or it was deleted here.
            Denied: a marker forbids it.
            PeersUnreached: not every peer could be asked.
            NoSpace, StoreFailure: the disk.
            Draining: this node is shutting down.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._result is None and not reached():
            # Fired by whatever the load does next.
            waiter: Deferred[None] = Deferred(self._forget)
            self._waiters[waiter] = reached
            await waiter

    def _forget(self, waiter: Deferred[None]) -> None:
        self._waiters.pop(waiter, None)

    def joined(self) -> None:
        """One more client wants it."""
        self._around.counters.waiters += self.holders > 0
        self.holders += 1

    def left(self) -> None:
        """One of the clients does not want it any more."""
        self.holders -= 1
        self._around.counters.waiters -= self.holders > 0
        if self.holders == 0 and not self._worth_finishing():
            self.stop(Draining())

    def _worth_finishing(self) -> bool:
        length = self.length or 0
        # What another process loads is that process's to finish.
        enough = self._around.limits.finish_load * length
        return self.right or (self._most > 0 and self._most >= enough)

    # Its life.

    def start(self) -> None:
        """Begin."""
        self._running = Deferred.fromCoroutine(self._fly())

    def stop(self, reason: DtfcError) -> None:
        """Give up, keeping what has come; whoever still waits gets ``reason``."""
        over = self._error is not None or self._result is not None
        if self.stopping is not None or over or self._letting_go:
            return
        self.stopping = reason
        if self._running is None:
            return
        if self._telling:
            # From inside the coroutine that would be cancelled.
            self._around.clock.callLater(0, self._running.cancel)
        else:
            self._running.cancel()

    async def landing(self) -> None:
        """Wait until it is over and nothing of it is open."""
        if not self.landed:
            # Fired by the end of the flight.
            waiter: Deferred[None] = Deferred()
            self._at_landing.append(waiter)
            await waiter

    async def _fly(self) -> None:
        self._around.counters.running += 1
        try:
            self._result = await self._bring()
            self.length = self._result.length
        except CancelledError:
            self._error = self.stopping or Draining()
        except DtfcError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._log.failure("loading {digest}", digest=self.digest.hex)
            self._error = error
        self._around.counters.running -= 1
        self.landed = True
        self._register.landed(self)
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if self._error is None:
                waiter.callback(None)
            else:
                waiter.errback(self._error.with_traceback(None))
        for each in self._at_landing:
            each.callback(None)

    def _tell(self) -> None:
        """Let those who wait look, then notice whether the last one has left."""
        self._telling = True
        try:
            for waiter, reached in list(self._waiters.items()):
                if waiter in self._waiters and reached():
                    del self._waiters[waiter]
                    waiter.callback(None)
        finally:
            self._telling = False

    async def _bring(self) -> BlobInfo:
        step = FIRST_LOOK
        try:
            while True:
                peers = self._register.peers_for(self.digest)
                if not peers:
                    here = await self._lane.run(self._look)
                    if here is not None:
                        return here
                    raise Absent(self.digest.hex, everywhere=True)
                await self._around.slots.take()
                try:
                    here = await self._opened()
                    if here is not None:
                        return here
                    if self._partial is not None:
                        return await self._transfer(peers, self._partial)
                finally:
                    self._around.slots.give_back()
                if not await self._followed():
                    await deferLater(self._around.clock, step)
                    step = min(2 * step, LONGEST_LOOK)
        finally:
            # Behind whatever step of the disk may still run.
            self._letting_go = True
            await self._lane.run(self._let_go)

    async def _opened(self) -> BlobInfo | None:
        """Open the partial, unless the blob is here; return that then.

        Not while it is being loaded elsewhere: by another process, whose lock
        ends with it, or by a flight of ours that is just being given up.
        """
        try:
            return await self._lane.run(self._open)
        except Busy:
            return None

    async def _followed(self) -> bool:
        """Follow the load of another process for a while; False if nothing is to be seen of it."""
        await self._lane.run(self._watch)
        watched = self._watched
        if watched is None:
            return False
        if not isinstance(self._view, Following) or self.length != watched.length:
            if self.length is not None:
                self._took_back_all()
            self._look_at(Following(watched, self._lane, self._around.clock, self._around.marks))
        view = self._view
        if isinstance(view, Following) and not await view.look(self._saw, self._took_back_all):
            self._view = None
            await self._lane.run(self._unwatch)
        return True

    def _look_at(self, view: Transfer | Following) -> None:
        self._view = view
        for start, end in self._wanted:
            view.want(start, end)
        if self._map_wanted:
            view.want_map()
        self._saw()

    def _took_back_all(self) -> None:
        self.took_back(None)

    async def _transfer(self, peers: tuple[str, ...], partial: Partial) -> BlobInfo:
        counters = self._around.counters
        counters.loads += 1
        mood = "failed"
        begun = self._around.clock.seconds()
        transfer: Transfer | None = None
        try:
            transfer = Transfer(
                self.digest,
                self._around,
                self._lane,
                partial,
                held=self._taken_over,
                length=partial.total,
                peers=peers,
                ancestors=self._register.ancestors_for(self.digest),
                watcher=self,
            )
            running = Deferred.fromCoroutine(transfer.run())
            self._look_at(transfer)
            info = await running
        except PeersUnreached:
            mood = "unreached"
            raise
        except Denied:
            self._unwanted = True
            raise
        except Absent as absent:
            if not absent.deleted:
                mood = "absent"
                self._register.nobody_has(self.digest, peers)
            self._unwanted = absent.deleted
            raise
        except CancelledError:
            mood = "stopped"
            raise
        else:
            mood = "loaded"
            counters.loaded_bytes += info.length
            return info
        finally:
            setattr(counters, mood, getattr(counters, mood) + 1)
            if transfer is not None:
                self._log_end(mood, transfer, self._around.clock.seconds() - begun)

    # What the transfer tells.

    def saw(self, transfer: Transfer) -> None:
        """Something has changed."""
        del transfer
        self._saw()

    def _saw(self) -> None:
        if self._view is not None:
            self.length = self._view.length or self.length
            if isinstance(self._view, Transfer):
                self._most = max(self._most, self._view.held.total)
            self.name = self._view.name
        self._tell()

    def took_back(self, chunks: frozenset[int] | None) -> None:
        """Bytes that were there were wrong: those of these chunks, or all."""
        self.taken_back.append(chunks)
        if chunks is None:
            self._wanted.clear()

    def answered(self, peer: str, seconds: float) -> None:
        """The head of an answer came after so many seconds."""
        self._register.answered(peer, seconds)

    def delivered(self, peer: str, count: int, seconds: float) -> None:
        """So many bytes came in so many seconds."""
        self._register.delivered(peer, count, seconds)

    def failed(self, peer: str) -> None:
        """A peer could not be reached, or broke off."""
        self._register.failed(peer)

    def lied(self, peer: str) -> None:
        """A peer sent what is not the blob."""
        self._register.lied(peer)

    def has(self, peer: str) -> None:
        """A peer said that it has the blob."""
        self._register.has(peer, self.digest)

    def lacks(self, peer: str) -> None:
        """A peer said that it does not have the blob."""
        self._register.lacks(peer, self.digest)

    def fetched(self, peer: str, result: str) -> None:
        """What became of one request to a peer."""
        self._register.fetched(peer, result)

    def _log_end(self, mood: str, transfer: Transfer, seconds: float) -> None:
        by_peer = [f"{peer} ({count})" for peer, count in transfer.from_peers.items()]
        self._log.info(
            "{mood} {digest}: length {length}, received {received}, resumed with {resumed}, "
            "refetched {refetched}, in {seconds:.3f} s, from {peers}",
            mood=mood,
            digest=self.digest.hex,
            length=transfer.length,
            received=transfer.received,
            resumed=transfer.resumed,
            refetched=transfer.refetched,
            seconds=seconds,
            peers=", ".join(by_peer) or "nobody",
        )

    # These run in the disk's threads, one at a time.

    def _look(self) -> BlobInfo | None:
        try:
            return self._around.store.stat(self.digest)
        except Absent as absent:
            if absent.deleted:
                raise
            return None

    def _open(self) -> BlobInfo | None:
        # In one trip to the disk: a client waits for the first byte.
        here = self._look()
        if here is None:
            # Kept here and not returned: a result that nobody waits for is lost.
            self._partial = self._around.store.partial(self.digest)
            self._taken_over = Spans(self._partial.take_over())
            self._absorbed = True
        return here

    def _watch(self) -> None:
        if self._watched is None:
            self._watched = self._around.store.watch_partial(self.digest)

    def _unwatch(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.close()

    def _let_go(self) -> None:
        self._unwatch()
        partial, self._partial = self._partial, None
        if partial is None:
            return
        # Of a blob that was deleted meanwhile nothing stays on the disk.
        if self._unwanted or (self._absorbed and not partial.held.total):
            partial.discard()
        else:
            partial.close()
