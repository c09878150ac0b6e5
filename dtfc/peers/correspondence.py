"""Messages about deletions, sent to one peer and answered by it.

Rules of this file: what a status means is said here alone. A node that does not
know these messages (of 2015, or an earlier version of this one) has nothing
under their addresses; it can still be told to delete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dtfc.errors import BadInput
from dtfc.peers.agreement import MOST_BYTES, Heard, parse_heard, records_body
from dtfc.peers.client import PeerHTTP, Said
from dtfc.peers.failure import PeerFailure
from dtfc.store.records import Record

RECORDS = "/deletions"
COMPARE = "/deletions/compare"

#: What an address that nobody knows is answered with.
_NO_SUCH_THING = frozenset({404, 405, 501})

#: What a DELETE is answered with by a node where the blob is not, afterwards.
_GONE = frozenset({200, 202, 204, 404, 410})

_WORDS = {
    401: "it does not accept this node's signature (401)",
    403: "it does not take this from this node (403)",
    429: "it takes no more for the moment (429)",
    503: "it cannot do that now (503)",
}


class Unversed(PeerFailure):
    """The peer does not know these messages."""

    def __init__(self) -> None:
        super().__init__("it does not know deletions everywhere")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a peer said to records.

    Args:
        heard: what became of them there.
        retry_after: seconds after which it takes more; None if it does now.
        sent: bytes of the message.
        received: bytes of the answer.
    """

    heard: Heard
    retry_after: int | None
    sent: int
    received: int


class Correspondence:
    """Sends messages about deletions.

    Args:
        http: asks peers.
    """

    def __init__(self, http: PeerHTTP) -> None:
        self._http = http

    async def ask(self, peer: str, question: bytes) -> bytes:
        """Ask what a peer remembers; return its answer.

        Raises:
            Unversed: it does not know the question.
            PeerFailure: it gave no usable answer.
        """
        said = await self._http.tell("POST", peer + COMPARE, question, MOST_BYTES)
        if said.status != 200:
            raise _refused(said)
        return said.body

    async def tell(self, peer: str, records: Sequence[Record]) -> Reply:
        """Tell a peer records.

        Raises:
            Unversed: it does not know records.
            PeerFailure: it gave no usable answer, and perhaps took some.
        """
        body = records_body(records)
        said = await self._http.tell("POST", peer + RECORDS, body, MOST_BYTES)
        if said.status not in (200, 429):
            raise _refused(said)
        try:
            heard = parse_heard(said.body, records)
        except BadInput as error:
            if said.status == 429:
                raise _refused(said) from error
            raise PeerFailure(str(error)) from error
        again = (said.retry_after or 1) if said.status == 429 else None
        return Reply(heard, again, len(body), len(said.body))

    async def delete(self, peer: str, digest_hex: str) -> None:
        """Tell a peer that knows nothing else to delete a blob.

        Raises:
            PeerFailure: it did not.
        """
        said = await self._http.tell("DELETE", f"{peer}/{digest_hex}", None, MOST_BYTES)
        if said.status not in _GONE:
            raise _refused(said)


def _refused(said: Said) -> PeerFailure:
    if said.status in _NO_SUCH_THING:
        return Unversed()
    return PeerFailure(_WORDS.get(said.status, f"it answered {said.status}"))
