"""What this node lacks, brought from its peers: one load a digest, joined by all who want it.

Rules of this file: this is the door of the room for the rest of the program.
It knows which loads are in progress, which digests nobody had a moment ago, and
who to ask; how a load goes is ``dtfc.peers.flight``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import Absent, Draining, PeersUnreached
from dtfc.http.ranges import Offer
from dtfc.peers.asking import Asking
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PeerHTTP
from dtfc.peers.disposition import file_name
from dtfc.peers.failure import PeerFailure
from dtfc.peers.flight import Flight, LoadStatus
from dtfc.peers.picker import Picker
from dtfc.peers.pull import DEFAULT_RETRY_AFTER, LONGEST_RETRY_AFTER
from dtfc.peers.roster import Roster
from dtfc.peers.slots import Slots, SlotsByName
from dtfc.peers.surroundings import Counters, LoadLimits, Surroundings
from dtfc.store.blobs import Store
from dtfc.store.chunkmap import ChunkMap
from dtfc.store.facts import BlobInfo


@dataclass(frozen=True, slots=True)
class RemoteInfo:
    """What a peer says about a blob that it has.

    Args:
        length: in bytes.
        name: the file name it gives, if it gives one.
    """

    length: int
    name: str | None


class Probing:
    """One question to the peers, for all who ask it meanwhile."""

    def __init__(self) -> None:
        self.running: Deferred[None] | None = None
        self._waiters: list[Deferred[RemoteInfo]] = []

    def answer(self) -> Deferred[RemoteInfo]:
        """Wait for the answer; when the last one leaves, nobody is asked any more."""
        waiter: Deferred[RemoteInfo] = Deferred(self._left)
        self._waiters.append(waiter)
        return waiter

    def tell(self, found: RemoteInfo | Failure) -> None:
        """Give those who wait what was found."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(found)

    def _left(self, waiter: Deferred[RemoteInfo]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            if not self._waiters and self.running is not None:
                self.running.cancel()


class Load:
    """One client's share in a load.

    The load itself goes on for the others when this client leaves; when the
    last one leaves, it goes on only if enough of it is there. So a client leaves
    in any case::

        with loader.ensure(digest) as load:
            await load.finished()

    Args:
        flight: the load.
    """

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._left = False
        flight.joined()

    @property
    def digest(self) -> Digest:
        """Which blob."""
        return self._flight.digest

    @property
    def length(self) -> int | None:
        """Of the blob in bytes, as a peer said it; certain once the blob is here."""
        return self._flight.length

    @property
    def name(self) -> str | None:
        """The file name that a peer gave."""
        return self._flight.name

    @property
    def ready(self) -> int:
        """The bytes ``[0, ready)`` can be read from :attr:`fd`."""
        return self._flight.ready

    def held_to(self, offset: int) -> int:
        """Return up to where bytes can be read without a gap from ``offset`` on."""
        return self._flight.held_to(offset)

    def trusted(self, start: int, end: int) -> bool:
        """Tell whether all chunks that these bytes lie in are as the peers' maps say."""
        return self._flight.trusted(start, end)

    @property
    def chunk_map(self) -> ChunkMap | None:
        """What the peers say of all chunks, if they agree."""
        return self._flight.chunk_map

    def to_be_compared(self, offset: int) -> bool:
        """Tell whether the peers' maps say what the chunk should be that a byte lies in."""
        return self._flight.to_be_compared(offset)

    @property
    def taken_back(self) -> Sequence[frozenset[int] | None]:
        """What had come and was wrong, in the order in which that was found: chunks, or all."""
        return self._flight.taken_back

    def want(self, start: int, end: int) -> None:
        """Bring these bytes first."""
        self._flight.want(start, end)

    def want_map(self) -> None:
        """Get a chunk map from a peer, if there is one, so that :meth:`trusted` can say yes."""
        self._flight.want_map()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so, or the blob is here; raises what :meth:`sized` raises."""
        await self._flight.until(reached)

    @property
    def here(self) -> bool:
        """Whether the blob is in the store."""
        return self._flight.here

    def sha256_of(self, chunk: int) -> bytes | None:
        """The SHA-256 of a chunk as it came; None if that is not known here. For any thread."""
        return self._flight.sha256_of(chunk)

    @property
    def right(self) -> bool:
        """Whether all bytes can be read and have the digest; they may not be durable yet."""
        return self._flight.right

    @property
    def fd(self) -> int:
        """The file that grows, for reading, which belongs to the load.

        Raises:
            LookupError: it is not open: not yet, or not any more (the blob is
                here then, or the load has failed).
        """
        return self._flight.fd

    async def sized(self) -> int:
        """Wait until a peer has said the length, and return it.

        Raises:
            Absent: nobody has it, or it was deleted here.
            Denied: a marker forbids it.
            PeersUnreached: not every peer could be asked.
            NoSpace, StoreFailure: the disk.
            Draining: this node is shutting down.
        """
        return await self._flight.sized()

    async def wait_for(self, end: int) -> None:
        """Wait until the bytes ``[0, end)`` can be read.

        Raises:
            BadInput: the blob has not so many.
            DtfcError: as :meth:`sized`.
        """
        await self._flight.wait_for(end)

    async def finished(self) -> BlobInfo:
        """Wait until the blob is in the store.

        Raises:
            DtfcError: as :meth:`sized`.
        """
        return await self._flight.finished()

    def leave(self) -> None:
        """This client does not want it any more; harmless when repeated."""
        if not self._left:
            self._left = True
            self._flight.left()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()


class Loader:
    """Brings blobs from peers.

    Args:
        store: where they go.
        disk: where blocking work is done.
        roster: whom to ask.
        http: asks them; closed by :meth:`stop`.
        clock: measures time.
        picker: orders the peers.
        limits: of loads; :meth:`set_limits` replaces them.
        shared: whether other processes serve the same store.
    """

    def __init__(
        self,
        store: Store,
        disk: Disk,
        roster: Roster,
        http: PeerHTTP,
        clock: IReactorTime,
        *,
        picker: Picker,
        limits: LoadLimits | None = None,
        shared: bool = False,
    ) -> None:
        self.counters = Counters()
        limits = limits or LoadLimits()
        self._around = Surroundings(
            store,
            disk,
            http,
            clock,
            self.counters,
            limits,
            Slots(limits.most_loads),
            SlotsByName(limits.asks_per_peer),
            picker,
            shared=shared,
        )
        self._roster = roster
        self._asking = Asking(http, picker, clock)
        self._flights: dict[Digest, Flight] = {}
        self._in_the_air: set[Flight] = set()
        self._nobody_had: dict[Digest, tuple[float, int]] = {}
        self._probes: dict[Digest, Probing] = {}
        self._stopped = False

    @property
    def picker(self) -> Picker:
        """What is known of peers, and whom to ask first."""
        return self._around.picker

    def share(self) -> None:
        """Note that another process serves the same store from now on."""
        self._around.shared = True

    def status(self) -> list[LoadStatus]:
        """Say how all loads in progress go."""
        return [flight.status() for flight in self._in_the_air]

    def set_limits(self, limits: LoadLimits, peers: PeerLimits) -> None:
        """Put other limits in force, for what begins from now on."""
        self._around.limits = limits
        self._around.slots.most = limits.most_loads
        self._around.at_peers.most = limits.asks_per_peer
        self._around.http.set_limits(peers)

    def ensure(self, digest: Digest) -> Load:
        """Bring a blob here, or join in if that is being done.

        Whether it is here already is looked at once more, and so are markers.

        Raises:
            Draining: this node is shutting down.
        """
        if self._stopped:
            raise Draining
        flight = self._flights.get(digest)
        if flight is not None and flight.stopping is None:
            return Load(flight)
        flight = Flight(digest, self._around, self)
        load = Load(flight)
        self._flights[digest] = flight
        self._in_the_air.add(flight)
        flight.start()
        return load

    def loading(self, digest: Digest) -> Load | None:
        """Join a load in progress; None if there is none."""
        flight = self._flights.get(digest)
        return Load(flight) if flight is not None and flight.stopping is None else None

    async def probe(self, digest: Digest) -> RemoteInfo:
        """Ask the peers, in order, what they know of a blob, without loading it.

        Raises:
            Absent: nobody has it.
            PeersUnreached: none has it, and not every one could be asked.
            Draining: this node is shutting down.
        """
        if self._stopped:
            raise Draining
        flight = self._flights.get(digest)
        if flight is not None and flight.length is not None:
            return RemoteInfo(flight.length, flight.name)
        probing = self._probes.setdefault(digest, Probing())
        # Before it runs: it may be over at once.
        answer = probing.answer()
        if probing.running is None:
            probing.running = Deferred.fromCoroutine(self._probe_once(digest, probing))
        return await answer

    async def _probe_once(self, digest: Digest, probing: Probing) -> None:
        found: RemoteInfo | Failure
        try:
            await self._around.slots.take()
            try:
                found = await self._probe(digest)
            finally:
                self._around.slots.give_back()
        except Exception:  # noqa: BLE001 - told to those who wait
            found = Failure()
        if self._probes.get(digest) is probing:
            del self._probes[digest]
        probing.tell(found)

    async def _probe(self, digest: Digest) -> RemoteInfo:
        unreached: dict[str, str] = {}
        waits: list[int] = []
        peers = self.peers_for(digest)
        for peer in peers:
            try:
                reply, judged = await self._asking.ask("HEAD", peer, digest)
            except PeerFailure as failure:
                unreached[peer] = failure.reason
                continue
            reply.drop()
            if isinstance(judged, Offer):
                name = file_name(reply.fields("content-disposition"))
                return RemoteInfo(judged.total, name)
            if judged.kind != "absent":
                unreached[peer] = judged.reason
                waits += [] if judged.retry_after is None else [judged.retry_after]
        if unreached:
            retry_after = max(1, min(waits, default=DEFAULT_RETRY_AFTER))
            raise PeersUnreached(digest.hex, unreached, min(retry_after, LONGEST_RETRY_AFTER))
        self.nobody_has(digest, peers)
        raise Absent(digest.hex, everywhere=True)

    def stored(self, digest: Digest) -> None:
        """A blob came here on another way: what was known of its absence is out of date."""
        self._nobody_had.pop(digest, None)

    async def stop(self) -> None:
        """End all loads, keeping what has come, and close every connection."""
        self._stopped = True
        flights = list(self._in_the_air)
        for flight in flights:
            flight.stop(Draining())
        for flight in flights:
            await flight.landing()
        await self._around.http.close()

    # What flights tell.

    def peers_for(self, digest: Digest) -> tuple[str, ...]:
        """Whom to ask, in order; nobody, if they all said just now that they do not have it."""
        remembered = self._nobody_had.get(digest)
        if remembered is not None:
            until, generation = remembered
            if generation == self._roster.generation and self._around.clock.seconds() < until:
                return ()
            del self._nobody_had[digest]
        return self._around.picker.order(digest, self._around.clock.seconds())

    def ancestors_for(self, digest: Digest) -> tuple[str, ...]:
        """Those that are asked also for what they are loading, the first one first."""
        picker = self._around.picker
        above = picker.ancestors(digest)
        if not above:
            return ()
        resting = {
            each.url for each in picker.snapshot(self._around.clock.seconds()) if each.rests > 0
        }
        return tuple(peer for peer in above if peer not in resting)

    def nobody_has(self, digest: Digest, asked: tuple[str, ...]) -> None:
        """Every one of these said that it does not have it."""
        in_force = {peer.url for peer in self._roster.current()}
        limits = self._around.limits
        if limits.remember_absent <= 0 or not asked or set(asked) != in_force:
            return
        self._nobody_had.pop(digest, None)
        while len(self._nobody_had) >= limits.most_remembered:
            # The oldest: a dict keeps the order of insertion.
            del self._nobody_had[next(iter(self._nobody_had))]
        until = self._around.clock.seconds() + limits.remember_absent
        self._nobody_had[digest] = (until, self._roster.generation)

    # What they learn of peers.

    def answered(self, peer: str, seconds: float) -> None:
        """The head of an answer came after so many seconds."""
        self._around.picker.first_byte(peer, seconds, self._around.clock.seconds())

    def delivered(self, peer: str, count: int, seconds: float) -> None:
        """So many bytes came in so many seconds."""
        self._around.picker.delivered(peer, count, seconds, self._around.clock.seconds())

    def fetched(self, peer: str, result: str) -> None:
        """What became of one request to a peer."""
        self._around.picker.fetched(peer, result)

    def failed(self, peer: str) -> None:
        """A peer could not be reached, or broke off."""
        self._around.picker.failed(peer, self._around.clock.seconds())

    def lied(self, peer: str) -> None:
        """A peer sent what is not the blob."""
        self._around.picker.lied(peer, self._around.clock.seconds())

    def has(self, peer: str, digest: Digest) -> None:
        """A peer said that it has the blob."""
        self._around.picker.has(peer, digest, self._around.clock.seconds())

    def lacks(self, peer: str, digest: Digest) -> None:
        """A peer said that it does not have the blob."""
        self._around.picker.lacks(peer, digest, self._around.clock.seconds())

    def landed(self, flight: Flight) -> None:
        """A load is over, and nothing of it is open any more."""
        self._in_the_air.discard(flight)
        if self._flights.get(flight.digest) is flight:
            del self._flights[flight.digest]
