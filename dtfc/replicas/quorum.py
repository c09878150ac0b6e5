"""Clients that wait until enough copies of what they stored are durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dtfc.digest import Digest
from dtfc.errors import Absent

#: Seconds between two looks at what another process copies, which tells nobody.
LOOK = 0.2


@dataclass(slots=True)
class _Client:
    own: bool
    wake: Deferred[None] | None = None
    deleted: bool = False
    told: bool = False


class Quorum:
    """Who waits for which blob.

    Args:
        clock: measures time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._clients: dict[Digest, list[_Client]] = {}

    def waits(self, digest: Digest) -> bool:
        """Whether anybody waits for copies of a blob."""
        return digest in self._clients

    def own(self) -> list[Digest]:
        """Return what is waited for, and is this process's to copy."""
        return [
            digest
            for digest, clients in self._clients.items()
            if any(client.own for client in clients)
        ]

    async def wait(
        self,
        digest: Digest,
        wanted: int,
        deadline: float,
        count: Callable[[], Awaitable[int]],
        *,
        own: bool,
    ) -> int:
        """Wait until so many peers hold a blob, or time is up; return how many do.

        Args:
            digest: which.
            wanted: peers.
            deadline: on the clock.
            count: tells how many do now.
            own: whether it is this process that copies it.

        Raises:
            Absent: it was deleted meanwhile.
        """
        client = _Client(own)
        waiting = self._clients.setdefault(digest, [])
        waiting.append(client)
        try:
            while True:
                client.told = False
                held = await count()
                if client.deleted:
                    raise Absent(digest.hex, deleted=True)
                if client.told and held < wanted:
                    # While it was counted; what was counted is old.
                    continue
                left = deadline - self._clock.seconds()
                if held >= wanted or left <= 0:
                    return held
                # What this process copies itself, it tells.
                await self._rest(client, left if own else min(left, LOOK))
                if client.deleted:
                    raise Absent(digest.hex, deleted=True)
        finally:
            waiting.remove(client)
            if not waiting and self._clients.get(digest) is waiting:
                del self._clients[digest]

    async def _rest(self, client: _Client, seconds: float) -> None:
        # Fired by tell, or when the time is up.
        client.wake = wake = Deferred[None]()
        timer = self._clock.callLater(seconds, self._woken, client)
        try:
            await wake
        finally:
            client.wake = None
            if timer.active():
                timer.cancel()

    def _woken(self, client: _Client) -> None:
        wake, client.wake = client.wake, None
        if wake is not None:
            wake.callback(None)

    def tell(self, digest: Digest, *, deleted: bool = False) -> None:
        """Say that one more peer holds a blob, or that it was deleted here."""
        for client in list(self._clients.get(digest, ())):
            client.deleted = client.deleted or deleted
            client.told = True
            self._woken(client)
