"""One copy of one blob to one peer: asked for, sent, and what the peer made of it.

Rules of this file: a copy counts when the peer says that it has the blob, of
this length and under this digest. A peer that says no is *refused*; one that
cannot say anything is not reached: :class:`PeerFailure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived

from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import BadInput, BadName
from dtfc.http.digests import parse_digest_field, repr_digest
from dtfc.integrity.reading import Checks
from dtfc.media_types import content_type
from dtfc.names import check_name
from dtfc.peers.client import PeerHTTP, Reply, Upload
from dtfc.peers.failure import PeerFailure
from dtfc.peers.sending import Refused
from dtfc.replicas.ownbytes import Heal, OwnBytes
from dtfc.replicas.pacing import CopyPacing
from dtfc.store.blobs import BlobInfo, Store

#: Bytes up to which a blob is sent without asking whether the peer has it: to
#: ask costs as much as to send it, and the peer stores it together with others.
UNASKED = 64 * 1024

#: What a peer answers that may be otherwise in a moment.
_PASSING = frozenset({408, 421, 425, 429, 500, 502, 503, 504})

_STORED = frozenset({200, 201, 204})


@dataclass(frozen=True, slots=True)
class Delivered:
    """A peer has the blob.

    Args:
        sent: bytes that were sent; None if it had it already.
    """

    sent: int | None


class Deliveries(Protocol):
    """Makes copies: :class:`Courier`, or a stand-in."""

    async def deliver(self, digest: Digest, peer: str) -> Delivered:
        """Make a peer have a blob.

        Args:
            digest: which.
            peer: ``http://host:port``.

        Raises:
            PeerFailure: it was not reached, or cannot now.
            Refused: it does not want it.
            Absent, Denied: it is not here, or a marker denies it.
            Corrupt, StoreFailure, Draining: it cannot be read here.
        """

    async def probe(self, peer: str) -> None:
        """Return if a peer answers at all.

        Raises:
            PeerFailure: it does not.
        """


class Courier:
    """Makes copies over HTTP.

    Args:
        http: asks peers.
        store: where the blobs lie.
        disk: where blocking work runs.
        checks: verifies what is read.
        heal: makes right what is wrong.
        clock: measures time.
        pacing: how fast bytes may leave.
    """

    def __init__(  # noqa: PLR0917 -- what it works with; one caller
        self,
        http: PeerHTTP,
        store: Store,
        disk: Disk,
        checks: Checks,
        heal: Heal,
        clock: IReactorTime,
        *,
        pacing: CopyPacing,
    ) -> None:
        self._http = http
        self._store = store
        self._disk = disk
        self._checks = checks
        self._heal = heal
        self._clock = clock
        self._pacing = pacing

    async def deliver(self, digest: Digest, peer: str) -> Delivered:
        """Make a peer have a blob; see :class:`Deliveries`."""
        own = OwnBytes(self._store, self._disk, self._checks, self._heal, self._clock)
        try:
            info = await own.open(digest)
            asks = info.length > UNASKED
            if asks and await self._has(peer, info):
                return Delivered(None)
            return await self._deliver(peer, info, own, asks=asks)
        finally:
            own.close()

    async def _deliver(self, peer: str, info: BlobInfo, own: OwnBytes, *, asks: bool) -> Delivered:
        try:
            reply = await self._sent(peer, info, own, asks=asks)
        except Refused as refused:
            if refused.status in _PASSING:
                raise PeerFailure(f"answered {refused.status}") from None
            if refused.status not in _STORED:
                raise
            sure, new = False, False
        else:
            reply.drop()
            if reply.status not in _STORED:
                raise _refusal(reply)
            sure, new = _is_of(reply, info.digest), reply.status != 200
        if not sure and not await self._has(peer, info):
            raise PeerFailure("said that it stored a blob, and does not have it")
        return Delivered(info.length if new else None)

    async def _has(self, peer: str, info: BlobInfo) -> bool:
        """Whether the peer has this blob, whole."""
        reply = await self._http.ask("HEAD", peer, info.digest.hex)
        try:
            if reply.status == 200:
                # Of another length it is damaged there; a PUT mends that.
                return list(reply.fields("content-length")) == [str(info.length)]
            if reply.status in (404, 405, 410, 501):
                # A PUT says more: it may be marked, or the peer knows no HEAD.
                return False
            raise _refusal(reply)
        finally:
            reply.drop()

    async def _sent(self, peer: str, info: BlobInfo, own: OwnBytes, *, asks: bool) -> Reply:
        first = await self._paced(peer, own) if info.length else b""
        for again in (True, False):
            try:
                return await self._http.send(
                    _url(peer, info), self._upload(peer, info, own, first, asks=asks)
                )
            except PeerFailure as failure:
                # A connection that had rested may have been closed by the peer
                # just then; to store a blob twice is to store it once.
                unheard = isinstance(
                    failure.__cause__, (ResponseNeverReceived, RequestTransmissionFailed)
                )
                if not (again and unheard and info.length <= len(first)):
                    raise
        raise LookupError("two attempts and no outcome")

    def _upload(
        self, peer: str, info: BlobInfo, own: OwnBytes, first: bytes, *, asks: bool
    ) -> Upload:
        ready = [first]

        async def read() -> bytes:
            return ready.pop() if ready else await self._paced(peer, own)

        fields = (
            ("Repr-Digest", repr_digest(info.digest)),
            ("Content-Type", content_type(info.name).encode("ascii", "replace").decode("ascii")),
            ("DTFC-Replica", "?1"),
        )
        return Upload(info.length, read, fields, ask_first=asks)

    async def _paced(self, peer: str, own: OwnBytes) -> bytes:
        block = await own.read()
        await self._pacing.take(peer, len(block))
        return block

    async def probe(self, peer: str) -> None:
        """Return if a peer answers at all; see :class:`Deliveries`."""
        reply = await self._http.ask("HEAD", peer, Digest.of(b"").hex)
        reply.drop()
        if reply.status in _PASSING:
            raise _refusal(reply)


def _url(peer: str, info: BlobInfo) -> str:
    path = f"{peer}/{info.digest.hex}"
    if info.name is None:
        return path
    try:
        return f"{path}/{quote(check_name(info.name), safe='')}"
    except BadName:
        # From a store of 2015; a peer would not take it.
        return path


def _is_of(reply: Reply, digest: Digest) -> bool:
    """Whether an answer speaks of this blob."""
    if digest.etag in reply.fields("etag"):
        return True
    try:
        return parse_digest_field(reply.fields("repr-digest")).get("sha-512") == digest.raw
    except BadInput:
        return False


def _refusal(reply: Reply) -> PeerFailure | Refused:
    if reply.status in _PASSING:
        return PeerFailure(f"answered {reply.status}")
    return Refused(reply.status)
