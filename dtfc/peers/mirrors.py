"""Which other nodes have a blob, as far as clients are told.

Rules of this file: it names who is known to have a blob, and is not known to
fail or lie; and nobody whom the operator does not want named. To name nobody is
always right, so no client waits for long, and nothing here is an error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from dtfc.errors import DtfcError
from dtfc.http.links import Mirror, country_of
from dtfc.peers.addresses import is_public
from dtfc.peers.failure import PeerFailure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dtfc.digest import Digest
    from dtfc.peers.asking import Asking
    from dtfc.peers.picker import Picker

#: Peers that are named, so that a head stays small; aria2 asks 5 unless it is told.
MOST_NAMED = 8

#: Peers that are asked about one blob at once.
MOST_ASKED = 8

#: Seconds for which a client waits for what they say.
WAIT = 1.0

#: Seconds until they are asked again about a blob that no client waits for.
ASK_AGAIN = 600.0

#: Blobs that peers are asked about at once.
MOST_AT_ONCE = 16

#: Blobs of which it is remembered when their holders were asked for.
MOST_REMEMBERED = 10_000


@lru_cache(maxsize=4096)
def _is_public(url: str) -> bool:
    return is_public(urlsplit(url).hostname or "")


class Naming(Enum):
    """Which peers are named to clients."""

    NOBODY = "off"
    PUBLIC = "public"
    ALL = "all"


class Mirrors:
    """Says who else has a blob.

    Args:
        picker: knows who has what, and how peers are.
        asking: asks them.
        clock: measures how long that takes.
        naming: which peers are named; replaced when the configuration is read again.

    Attributes:
        copies: tells which peers were given a blob; None where none are.
    """

    _log = Logger()

    def __init__(
        self, picker: Picker, asking: Asking, clock: IReactorTime, naming: Naming = Naming.PUBLIC
    ) -> None:
        self.naming = naming
        self.copies: Callable[[Digest], Awaitable[list[str]]] | None = None
        self._picker = picker
        self._asking = asking
        self._clock = clock
        self._under_way: dict[Digest, list[Deferred[None]]] = {}
        self._asked_at: OrderedDict[Digest, float] = OrderedDict()

    @property
    def names_any(self) -> bool:
        """Whether clients are told anything at all."""
        return self.naming is not Naming.NOBODY

    def of(self, digest: Digest) -> tuple[Mirror, ...]:
        """Return where else a blob can be had, the best place first."""
        if not self.names_any:
            return ()
        peers = self._picker.holders(digest, self._clock.seconds())
        named = [peer for peer in peers if self._may_name(peer.url)][:MOST_NAMED]
        return tuple(Mirror(f"{peer.url}/{digest}", country_of(peer.zone)) for peer in named)

    def still(self, digest: Digest, told: tuple[Mirror, ...]) -> bool:
        """Whether those that were told of (:meth:`of`) are still right; their order may change."""
        if not self.names_any:
            return not told
        having = self._picker.holding(digest, self._clock.seconds())
        now = {f"{url}/{digest}" for url in having if self._may_name(url)}
        return len(told) == min(len(now), MOST_NAMED) and all(each.url in now for each in told)

    async def recall(self, digest: Digest) -> None:
        """Remember who was given a blob, where nobody is known to have it."""
        if self.copies is None or not self.names_any or self.of(digest):
            return
        try:
            given = await self.copies(digest)
        except DtfcError as error:
            self._log.error("the queue of copies: {error}", error=str(error))
            return
        self._picker.recall(digest, given, self._clock.seconds())

    async def find(self, digest: Digest, length: int | None) -> None:
        """Ask peers that have said nothing lately, and wait a moment for what they say.

        Args:
            digest: which blob.
            length: its bytes; a peer that says otherwise does not have it. None if only
                a peer has said it.
        """
        await self.recall(digest)
        waiters = self._ask(digest, length)
        if waiters is None:
            return
        waiter: Deferred[None] = Deferred()
        waiters.append(waiter)
        late = self._clock.callLater(WAIT, waiter.callback, None)
        try:
            await waiter
        finally:
            # Who leaves ends no question: others wait for it, and the picker learns.
            if waiter in waiters:
                waiters.remove(waiter)
            if late.active():
                late.cancel()

    def find_later(self, digest: Digest, length: int) -> None:
        """Ask them for the sake of the next client; no more than every ten minutes."""
        now = self._clock.seconds()
        since = now - self._asked_at.get(digest, float("-inf"))
        # A clock that was set back forbids nothing.
        if not self.names_any or self.of(digest) or 0 <= since < ASK_AGAIN:
            return
        self._asked_at.pop(digest, None)
        self._asked_at[digest] = now
        while len(self._asked_at) > MOST_REMEMBERED:
            self._asked_at.popitem(last=False)
        self._ask(digest, length)

    def _may_name(self, url: str) -> bool:
        if self.naming is Naming.PUBLIC:
            return _is_public(url)
        return self.naming is Naming.ALL

    def _ask(self, digest: Digest, length: int | None) -> list[Deferred[None]] | None:
        """Ask about a blob, if there is somebody to ask, and room for it.

        Returns:
            Who waits for the answers; None if none are to come.
        """
        running = self._under_way.get(digest)
        if running is not None or not self.names_any or len(self._under_way) >= MOST_AT_ONCE:
            return running
        silent = self._picker.unasked(digest, self._clock.seconds())
        asked = [peer.url for peer in silent if self._may_name(peer.url)][:MOST_ASKED]
        answers = [Deferred.fromCoroutine(self._ask_one(url, digest, length)) for url in asked]
        if all(each.called for each in answers):
            return None
        waiters = self._under_way[digest] = []

        def all_said(_results: object) -> None:
            del self._under_way[digest]
            waiting = waiters.copy()
            waiters.clear()
            for waiter in waiting:
                waiter.callback(None)

        DeferredList(answers).addCallback(all_said)
        return waiters

    async def _ask_one(self, url: str, digest: Digest, length: int | None) -> None:
        try:
            reply, _ = await self._asking.ask("HEAD", url, digest, length=length)
            reply.drop()
        except PeerFailure:
            pass  # the picker has been told
        except Exception:  # noqa: BLE001 -- nobody waits for this one question
            self._log.failure("asking {peer} what it has", peer=url)
