"""A stretch of a blob from whichever peer has it right.

For healing: the blob is here but for a few chunks, and what each of them must
hash to is known, so a peer that is wrong is found out at once.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dtfc.digest import Digest
from dtfc.errors import Absent, PeersUnreached
from dtfc.http.ranges import Offer
from dtfc.peers.asking import Asking
from dtfc.peers.client import PeerHTTP
from dtfc.peers.failure import PeerFailure
from dtfc.peers.picker import Picker
from dtfc.peers.pull import DEFAULT_RETRY_AFTER, LONGEST_RETRY_AFTER


class Pieces:
    """Asks the peers for stretches.

    Args:
        http: asks a peer.
        picker: whom to ask, in order.
        clock: measures how long they take.
    """

    _log = Logger()

    def __init__(self, http: PeerHTTP, picker: Picker, clock: IReactorTime) -> None:
        self._asking = Asking(http, picker, clock)
        self._picker = picker
        self._clock = clock

    async def fetch(
        self,
        digest: Digest,
        length: int,
        start: int,
        count: int,
        is_right: Callable[[bytes], bool],
    ) -> bytes:
        """Return a stretch that is right, from the first peer that sends it.

        Args:
            digest: of the blob.
            length: of the blob, in bytes.
            start: the first byte.
            count: how many; they are held in memory.
            is_right: tells whether these are the bytes.

        Raises:
            Absent: no peer has the blob.
            PeersUnreached: none sent the right bytes, and not every one could
                be asked.
        """
        unreached: dict[str, str] = {}
        for peer in self._picker.order(digest, self._clock.seconds()):
            try:
                found = await self._ask(peer, digest, length, start, count)
            except PeerFailure as failure:
                unreached[peer] = failure.reason
                continue
            if found is None:
                continue
            if is_right(found):
                return found
            self._picker.lied(peer, self._clock.seconds())
            unreached[peer] = "its bytes are wrong"
            self._log.warn(
                "{peer} sent wrong bytes of {digest} at {start}",
                peer=peer,
                digest=digest.hex,
                start=start,
            )
        if unreached:
            retry_after = min(DEFAULT_RETRY_AFTER, LONGEST_RETRY_AFTER)
            raise PeersUnreached(digest.hex, unreached, retry_after)
        raise Absent(digest.hex, everywhere=True)

    async def _ask(
        self, peer: str, digest: Digest, length: int, start: int, count: int
    ) -> bytes | None:
        """Return what one peer sends; None if it does not have the blob.

        Raises:
            PeerFailure: it gave no usable answer.
        """
        end = start + count
        reply, offer = await self._asking.ask("GET", peer, digest, start, end, length=length)
        if not isinstance(offer, Offer):
            reply.drop()
            if offer.kind == "absent":
                return None
            raise PeerFailure(offer.reason)
        body = reply.take(start - offer.start, count)
        begun = self._clock.seconds()
        blocks: list[bytes] = []
        try:
            while more := await body.read():
                blocks += more
        except CancelledError:
            body.abort("no longer wanted")
            raise
        now = self._clock.seconds()
        if body.cut is not None:
            self._picker.failed(peer, now)
            raise PeerFailure(body.cut)
        self._picker.delivered(peer, body.received, now - begun, now)
        return b"".join(blocks)
