"""The words of a load: what happens to it (events), what it wants done (actions).

Rules of this file: values only, frozen. ``dtfc.peers.pull`` turns events into
actions; ``dtfc.peers.loader`` performs them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dtfc.http.ranges import Fields

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
    """So many more bytes were appended at ``ready``."""

    number: int
    count: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The body is over; ``cut`` says why, if less came than was to be taken."""

    number: int
    cut: str | None = None


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
    """The time of a :class:`Wait` is over."""


Event = Answered | Got | Ended | Failed | Verified | Waited


# What to do.


@dataclass(frozen=True, slots=True)
class Ask:
    """Request the bytes from ``start`` on (to before ``end``, if given) from a peer."""

    number: int
    peer: str
    start: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """Read the body: pass over ``skip`` bytes, append the next ``count``, want no more."""

    number: int
    skip: int
    count: int


@dataclass(frozen=True, slots=True)
class Drop:
    """The response is of no use; its body need not be read."""

    number: int


@dataclass(frozen=True, slots=True)
class Restart:
    """Forget all bytes held."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare the digest of all bytes held; report :class:`Verified`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Report :class:`Waited` after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """A peer failed; worth a line in the log."""

    peer: str
    reason: str


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


Action = Ask | Take | Drop | Restart | Verify | Wait | Note | Finish
