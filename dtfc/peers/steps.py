"""The words of a load: what happens to it (events), what it wants done (actions).

Rules of this file: values only, frozen. ``dtfc.peers.pull`` turns events into
actions; ``dtfc.peers.transfer`` performs them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dtfc.http.ranges import Fields
from dtfc.store.chunkmap import ChunkMap

# What happened.


@dataclass(frozen=True, slots=True)
class Answered:
    """The head of a peer's response is there.

    Args:
        number: of the ask.
        status: of the response.
        fields: every value of a field, by its lower-case name; Content-Length included.
    """

    number: int
    status: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class Got:
    """So many more bytes of an ask are in the file, behind those before."""

    number: int
    count: int


@dataclass(frozen=True, slots=True)
class Hashed:
    """A chunk is whole in the file, and this is its SHA-256."""

    chunk: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a peer answered when it was asked for the chunk map; None if with none of use."""

    peer: str
    map: ChunkMap | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Somebody waits for these bytes: a client's range, another process's wish.

    Args:
        start: the first of them.
        end: the one behind the last; it may lie behind the blob's end.
    """

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MapWanted:
    """Somebody waits for chunks to be compared with a map."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The body is over; ``cut`` says why, if less came than was to be taken.

    ``broken_off`` tells whether the peer ended it, and not this node.
    """

    number: int
    cut: str | None = None
    broken_off: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no usable answer: no connection, no head in time, no room for it here."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The digest of all bytes held was compared."""

    right: bool


@dataclass(frozen=True, slots=True)
class Waited:
    """The time of the latest :class:`Wait` is over."""


Event = Answered | Got | Hashed | Mapped | Wanted | MapWanted | Ended | Failed | Verified | Waited


# What to do.


@dataclass(frozen=True, slots=True)
class Ask:
    """Request the bytes from ``start`` on (to before ``end``, if given) from a peer.

    With ``partial`` also those that it is loading itself: they come when it has them.
    """

    number: int
    peer: str
    start: int
    end: int | None = None
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """Read the body: pass over ``skip`` bytes, write the next ``count`` from ``at`` on.

    No more is wanted.
    """

    number: int
    skip: int
    count: int
    at: int = 0


@dataclass(frozen=True, slots=True)
class Shorten:
    """Of a body that is being taken, want nothing from byte ``end`` of the blob on."""

    number: int
    end: int


@dataclass(frozen=True, slots=True)
class Drop:
    """The request or response is of no use any more; report nothing further of it."""

    number: int


@dataclass(frozen=True, slots=True)
class AskMap:
    """Request a peer's chunk map; report :class:`Mapped`."""

    peer: str


@dataclass(frozen=True, slots=True)
class Trust:
    """These chunks are what the peers' maps say."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Forget these chunks: they are wrong."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Restart:
    """Forget all bytes held."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare the digest of all bytes held; report :class:`Verified`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Report :class:`Waited` after so many seconds; a later one takes its place."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """A peer failed; worth a line in the log."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Accuse:
    """A peer sent what is not the blob."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lacks:
    """A peer said that it does not have the blob."""

    peer: str


@dataclass(frozen=True, slots=True)
class Complete:
    """The bytes held are the blob."""


@dataclass(frozen=True, slots=True)
class NobodyHasIt:
    """Every peer was asked, and every one said that it does not have it."""


@dataclass(frozen=True, slots=True)
class NotReached:
    """It may exist, but could not be had.

    Args:
        reasons: what happened, for each peer that did not say "absent".
        retry_after: seconds after which asking again makes sense.
    """

    reasons: dict[str, str]
    retry_after: int


Outcome = Complete | NobodyHasIt | NotReached


@dataclass(frozen=True, slots=True)
class Finish:
    """The load is over; nothing follows."""

    outcome: Outcome


Action = (
    Ask
    | Take
    | Shorten
    | Drop
    | AskMap
    | Trust
    | TakeBack
    | Restart
    | Verify
    | Wait
    | Note
    | Accuse
    | Lacks
    | Finish
)
