"""The bytes of one load on their way: performs what ``dtfc.peers.pull`` decides.

Rules of this file: one coroutine does it all, so there is one place where it
can be stopped, and whatever stops it, the response in hand is let go. Bytes go
from a peer's body to the partial in blocks, one disk step each; the next block
gathers meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtfc.digest import Digest
from dtfc.disk import Disk, Lane
from dtfc.errors import Absent, NoSpace, PeersUnreached, WrongDigest
from dtfc.peers.body import Body
from dtfc.peers.client import PeerHTTP, Reply
from dtfc.peers.disposition import file_name
from dtfc.peers.failure import PeerFailure, one_line
from dtfc.peers.picker import Picker
from dtfc.peers.pull import Pull
from dtfc.peers.slots import Slots
from dtfc.peers.steps import (
    Action,
    Answered,
    Ask,
    Complete,
    Drop,
    Ended,
    Event,
    Failed,
    Finish,
    Got,
    NobodyHasIt,
    Note,
    NotReached,
    Restart,
    Take,
    Verified,
    Verify,
    Wait,
    Waited,
)
from dtfc.store.blobs import Store
from dtfc.store.facts import BlobInfo
from dtfc.store.partials import Partial


@dataclass(slots=True)
class Counters:
    """What all loads of this process came to, since it started.

    Args:
        running: loads in progress now.
        loads: begun, that is: the blob was not found to be here already.
        loaded: ended with the blob here.
        absent: ended with: nobody has it.
        unreached: ended with: not every peer could be asked.
        stopped: given up, because nobody waited any more or at shutdown.
        failed: ended by something on this node (disk full, a marker).
        peer_failures: times that a peer gave no usable answer or broke off.
        loaded_bytes: lengths of the blobs loaded.
        received_bytes: body bytes that came from peers, wanted or not.
        resumed_bytes: bytes that were left by earlier loads and taken up again.
        refetched_bytes: of those received, the ones that had been here before.
    """

    running: int = 0
    loads: int = 0
    loaded: int = 0
    absent: int = 0
    unreached: int = 0
    stopped: int = 0
    failed: int = 0
    peer_failures: int = 0
    loaded_bytes: int = 0
    received_bytes: int = 0
    resumed_bytes: int = 0
    refetched_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How loads are bounded.

    Args:
        finish_load: the share of a blob, 0 to 1, from which on its load is
            finished although nobody waits for it any more (``--finish-load``).
        remember_absent: seconds for which nobody is asked again for a blob that
            nobody had; 0 to ask each time (``--absent-ttl``).
        most_remembered: blobs that nobody had, remembered at once; the oldest
            are forgotten first (``--absent-max``).
        most_loads: loads at once; further ones wait (``--max-loads``).
    """

    finish_load: float = 0.5
    remember_absent: float = 2.0
    most_remembered: int = 10_000
    most_loads: int = 64


@dataclass(slots=True)
class Surroundings:
    """What every load of a process shares.

    Args:
        store: where blobs go.
        disk: where blocking work is done.
        http: asks peers.
        clock: measures time.
        counters: what is counted.
        limits: replaced as a whole when the configuration is read again.
        slots: places for loads.
        picker: orders peers, and wants to know how they are.
    """

    store: Store
    disk: Disk
    http: PeerHTTP
    clock: IReactorTime
    counters: Counters
    limits: LoadLimits
    slots: Slots
    picker: Picker


class Transfer:
    """Brings one blob here.

    Args:
        digest: which blob.
        around: client, clock, counters.
        lane: where the steps on ``partial`` are done, in order.
        partial: where the bytes go.
        held: how many it has already, hashed.
        peers: whom to ask, in order.
        changed: called after each step; what it raises ends the transfer.
    """

    _log = Logger()

    def __init__(
        self,
        digest: Digest,
        around: Surroundings,
        lane: Lane,
        partial: Partial,
        *,
        held: int,
        peers: tuple[str, ...],
        changed: Callable[[Transfer], None],
    ) -> None:
        self.ready = held
        self.length: int | None = None
        self.name: str | None = None
        self.resumed_at = held
        self.received = 0
        self.refetched = 0
        self.from_peers: dict[str, int] = {}
        """Bytes appended, by the peer that sent them."""
        self._digest = digest
        self._around = around
        self._lane = lane
        self._partial = partial
        self._changed = changed
        self._pull = Pull(peers, held, digest.hex)
        self._actions: deque[Action] = deque()
        self._furthest = held
        self._asked: Ask | None = None
        self._reply: Reply | None = None
        self._no_room: NoSpace | None = None
        self._stored: BlobInfo | None = None

    async def run(self) -> BlobInfo:
        """Do it.

        Raises:
            Absent: nobody has it, or it was deleted here meanwhile.
            Denied: a marker forbids it.
            PeersUnreached: not every peer could be asked.
            NoSpace, StoreFailure: the disk.
        """
        self._around.counters.resumed_bytes += self.resumed_at
        self._actions.extend(self._pull.begin())
        try:
            while True:
                action = self._actions.popleft()
                if isinstance(action, Finish):
                    return self._conclude(action)
                await self._perform(action)
        finally:
            self._drop_reply()

    def _conclude(self, finish: Finish) -> BlobInfo:
        match finish.outcome:
            case Complete() if self._stored is not None:
                return self._stored
            case NotReached(reasons, retry_after):
                # A peer may have it, if only it fitted.
                if self._no_room is not None:
                    raise self._no_room
                raise PeersUnreached(self._digest.hex, reasons, retry_after)
            case Complete() | NobodyHasIt():
                raise Absent(self._digest.hex, everywhere=True)

    async def _perform(self, action: Action) -> None:
        match action:
            case Ask():
                await self._ask(action)
            case Take():
                await self._take(action)
            case Drop():
                self._drop_reply()
            case Restart():
                await self._lane.run(self._partial.restart)
                self._saw()
            case Verify():
                await self._verify()
            case Wait():
                await deferLater(self._around.clock, action.seconds)
                self._happened(Waited())
            case Note():
                self._note(action)

    def _happened(self, event: Event) -> None:
        self._actions.extend(self._pull.on(event))
        self._saw()

    def _saw(self) -> None:
        self.ready = self._pull.ready
        self.length = self._pull.length or self.length
        self._changed(self)

    async def _ask(self, ask: Ask) -> None:
        self._asked = ask
        try:
            reply = await self._around.http.ask("GET", ask.peer, self._digest.hex, ask.start)
        except PeerFailure as failure:
            self._happened(Failed(ask.number, failure.reason))
            return
        self._reply = reply
        self._happened(Answered(ask.number, reply.status, reply.fields))

    async def _take(self, take: Take) -> None:
        reply = self._reply
        if reply is None or self._asked is None:
            raise LookupError("there is no response to take from")
        if not await self._reserved(take):
            return
        self.name = file_name(reply.fields("content-disposition")) or self.name
        self._reply = None
        body = reply.take(take.skip, take.count)
        counted = 0
        try:
            while blocks := await body.read():
                counted = self._count_received(body, counted)
                await self._lane.run(self._partial.write, blocks)
                self._count_appended(self._asked.peer, sum(map(len, blocks)))
                self._happened(Got(take.number, sum(map(len, blocks))))
        finally:
            body.abort("is not wanted any more")
            self._count_received(body, counted)
            self._count_refetched(body.skipped)
        if body.surplus:
            self._note(Note(self._asked.peer, "sent more than it had announced"))
        self._happened(Ended(take.number, body.cut))

    async def _reserved(self, take: Take) -> bool:
        """Whether there is room; a peer that announces more than fits may be lying."""
        total = self._pull.length or 0
        try:
            await self._lane.run(self._partial.reserve, total)
        except NoSpace as error:
            self._no_room = error
            self._drop_reply()
            self._happened(Failed(take.number, f"announced {total} bytes, which do not fit here"))
            return False
        return True

    async def _verify(self) -> None:
        try:
            stored = await self._lane.run(self._partial.commit, self.name)
        except WrongDigest:
            self._happened(Verified(right=False))
        else:
            self._stored = stored.info
            self._happened(Verified(right=True))

    def _drop_reply(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.drop()

    def _note(self, note: Note) -> None:
        self._around.counters.peer_failures += 1
        self._log.info(
            "{peer}: {reason} (loading {digest}, {ready} bytes are here)",
            peer=note.peer,
            reason=one_line(note.reason),
            digest=self._digest.hex,
            ready=self.ready,
        )

    def _count_received(self, body: Body, counted: int) -> int:
        self.received += body.received - counted
        self._around.counters.received_bytes += body.received - counted
        return body.received

    def _count_appended(self, peer: str, count: int) -> None:
        self.from_peers[peer] = self.from_peers.get(peer, 0) + count
        end = self.ready + count
        self._count_refetched(count - max(0, min(count, end - self._furthest)))
        self._furthest = max(self._furthest, end)

    def _count_refetched(self, count: int) -> None:
        self.refetched += count
        self._around.counters.refetched_bytes += count
