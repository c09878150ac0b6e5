"""Entries in the queue of copies: those that wait for the disk go together.

While one transaction is on its way, what comes waits for the next one: so many
PUTs at once share the wait for the disk, and one alone waits for nobody.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from dtfc.disk import Disk
from dtfc.store.outbox import Outbox, Step

#: Most steps in a transaction.
MOST = 500


class Ledger:
    """Writes into a queue, in the order in which it is told to.

    Args:
        outbox: the queue.
        disk: where blocking work runs.
    """

    def __init__(self, outbox: Outbox, disk: Disk) -> None:
        self._outbox = outbox
        self._disk = disk
        self._waiting: list[tuple[Step, Deferred[bool]]] = []
        self._busy = False
        self._idle: list[Deferred[None]] = []

    def enter(self, step: Step) -> Deferred[bool]:
        """Do a step; the Deferred fires when it is done, and durable if it must be.

        Cancelling gives up the answer only.

        Raises:
            StoreFailure: it is not done.
        """
        done: Deferred[bool] = Deferred()
        self._waiting.append((step, done))
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._write())
        return done

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                results = await self._disk.run(self._outbox.apply, [step for step, _ in group])
            except Exception as error:  # noqa: BLE001 - whoever waits is told
                for _, done in group:
                    if not done.called:
                        done.errback(error)
                continue
            for (_, done), result in zip(group, results, strict=True):
                if not done.called:
                    done.callback(result)
        self._busy = False
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)

    async def settled(self) -> None:
        """Wait until nothing is on its way."""
        if self._busy:
            # Fired when the last group is written.
            idle = Deferred[None]()
            self._idle.append(idle)
            await idle
