"""Asks a peer one question, and lets the picker know how that went."""

from __future__ import annotations

from typing import Literal

from twisted.internet.interfaces import IReactorTime

from dtfc.digest import Digest
from dtfc.http.ranges import Offer, Refusal, judge_reply
from dtfc.peers.client import PeerHTTP, Reply
from dtfc.peers.failure import PeerFailure
from dtfc.peers.picker import Picker


class Asking:
    """Asks peers for what they have themselves.

    Args:
        http: the client.
        picker: is told of answers and failures.
        clock: measures how long they take.
    """

    def __init__(self, http: PeerHTTP, picker: Picker, clock: IReactorTime) -> None:
        self._http = http
        self._picker = picker
        self._clock = clock

    async def ask(
        self,
        method: Literal["GET", "HEAD"],
        peer: str,
        digest: Digest,
        start: int = 0,
        end: int | None = None,
        *,
        length: int | None = None,
    ) -> tuple[Reply, Offer | Refusal]:
        """Return a reply, its body still to be taken or dropped, and what it is worth.

        Args:
            method: GET or HEAD.
            peer: ``http://host:port``.
            digest: which blob.
            start: as of :meth:`PeerHTTP.ask`.
            end: likewise.
            length: of the blob, where it is known.

        Raises:
            PeerFailure: there is none.
        """
        begun = self._clock.seconds()
        try:
            reply = await self._http.ask(method, peer, digest.hex, start, end)
        except PeerFailure:
            self._picker.failed(peer, self._clock.seconds())
            raise
        now = self._clock.seconds()
        self._picker.first_byte(peer, now - begun, now)
        judged = judge_reply(reply.status, reply.fields, start, length, digest.hex, end=end)
        if isinstance(judged, Offer):
            self._picker.has(peer, digest, now)
        elif judged.kind == "wrong":
            self._picker.failed(peer, now)
        else:
            # Whatever its reason, others are worth asking before it is asked again.
            self._picker.lacks(peer, digest, now)
        return reply, judged
