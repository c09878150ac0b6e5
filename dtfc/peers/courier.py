"""Brings deletions to the peers, and again to those that could not be reached.

Rules of this file: what is to be done stands in the store's memory, so nothing
is lost with the process, and any process of the node may do it. To tell a peer
twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger

from dtfc.errors import DtfcError
from dtfc.peers.agreement import LONGEST_WAIT, wait_after
from dtfc.peers.correspondence import Correspondence, Unversed
from dtfc.peers.failure import PeerFailure
from dtfc.store.graves import now

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dtfc.disk import Disk
    from dtfc.store.memory import Memory, State
    from dtfc.store.records import Record

#: Deletions in one message.
BATCH = 100

#: Peers that are visited at once.
MOST_VISITS = 8

Pending = Sequence[tuple[str, int, "Record"]]


class Courier:
    """Brings what is pending.

    Args:
        memory: what is pending.
        disk: where it is looked up.
        correspondence: tells peers.
        clock: tells the time of the next attempt.
        chance: a random number from 0 to 1.
        overruled: takes what a peer knew better.
        reached: told of a peer that answers again.
    """

    _log = Logger()

    def __init__(
        self,
        memory: Memory,
        disk: Disk,
        correspondence: Correspondence,
        clock: IReactorTime,
        *,
        chance: Callable[[], float],
        overruled: Callable[[Sequence[Record], str], Awaitable[object]],
        reached: Callable[[str], None],
    ) -> None:
        self.delivered = 0
        self.failures = 0
        self._memory = memory
        self._disk = disk
        self._correspondence = correspondence
        self._clock = clock
        self._chance = chance
        self._overruled = overruled
        self._reached = reached
        self._visits = DeferredSemaphore(MOST_VISITS)
        self._running: dict[str, Deferred[None]] = {}
        self._again: set[str] = set()
        self._stopped = False

    def visit(self, peer: str) -> Deferred[None]:
        """Bring a peer what is pending for it, unless it is to be left alone for now.

        Returns:
            Fires when the visit that runs, or the one after it, is over;
            cancelling it changes nothing for the visit.
        """
        # Fired by the visit's end.
        waiter: Deferred[None] = Deferred()
        running = self._running.get(peer)
        if running is not None:
            self._again.add(peer)
        else:
            running = self._visits.run(lambda: Deferred.fromCoroutine(self._visit(peer)))
            self._running[peer] = running
            running.addBoth(self._over, peer)

        def tell(result: object) -> object:
            if not waiter.called:
                waiter.callback(None)
            return result

        running.addBoth(tell)
        return waiter

    def _over(self, _result: object, peer: str) -> None:
        del self._running[peer]

    async def stop(self) -> None:
        """Let what is on its way end; nothing new is begun."""
        self._stopped = True
        for running in list(self._running.values()):
            running.cancel()

    async def _visit(self, peer: str) -> None:
        try:
            self._again.add(peer)
            while peer in self._again and not self._stopped:
                self._again.discard(peer)
                await self._bring(peer)
        except CancelledError:
            return
        except DtfcError as error:
            self._log.error("telling {peer} deletions: {error}", peer=peer, error=str(error))
        except Exception:  # noqa: BLE001 - the next turn tries again
            self._log.failure("telling {peer} deletions", peer=peer)

    async def _bring(self, peer: str) -> None:
        failures, next_try = await self._disk.run(self._memory.unreached, peer)
        ahead = next_try - self._clock.seconds()
        # Further ahead than anybody was ever put off: the clock was set back.
        if 0 < ahead < 2 * LONGEST_WAIT:
            return
        while not self._stopped:
            batch = await self._disk.run(self._memory.pending, peer, BATCH)
            if not batch:
                return
            try:
                states, wait = await self._deliver(peer, batch)
            except PeerFailure as failure:
                self.failures += 1
                seconds = wait_after(failures + 1, self._chance())
                await self._put_off(peer, failures + 1, seconds, failure.reason)
                return
            self.delivered += len(states)
            await self._disk.run(self._memory.delivered, peer, states, now())
            if failures:
                failures = 0
                self._reached(peer)
            if wait is not None:
                await self._put_off(peer, 1, wait, "it takes no more for the moment (429)")
                return

    async def _put_off(self, peer: str, failures: int, seconds: float, reason: str) -> None:
        at = self._clock.seconds() + seconds
        await self._disk.run(self._memory.put_off, peer, failures, at, reason)

    async def _deliver(
        self, peer: str, batch: Pending
    ) -> tuple[list[tuple[str, State]], int | None]:
        """Tell a peer; return what became of it, and how long to wait with the rest."""
        try:
            reply = await self._correspondence.tell(peer, [record for _, _, record in batch])
        except Unversed:
            return await self._deliver_plainly(peer, batch), None
        newer = {each.digest: each for each in reply.heard.newer}
        if newer:
            await self._overruled(reply.heard.newer, peer)
        states: list[tuple[str, State]] = []
        for receipt, _, record in batch[: reply.heard.taken]:
            counts = newer.get(record.digest, record)
            states.append((receipt, "acknowledged" if counts.deleted else "overruled"))
        if not states and reply.retry_after is None:
            raise PeerFailure("it took nothing of what it was told")
        return states, reply.retry_after

    async def _deliver_plainly(self, peer: str, batch: Pending) -> list[tuple[str, State]]:
        """Tell a peer that knows only DELETE, one after the other.

        Raises:
            PeerFailure: it did not take the first one.
        """
        states: list[tuple[str, State]] = []
        for receipt, _, record in batch:
            if not record.deleted:
                states.append((receipt, "overruled"))
                continue
            try:
                await self._correspondence.delete(peer, record.digest.hex)
            except PeerFailure:
                if not states:
                    raise
                break
            states.append((receipt, "acknowledged"))
        return states
