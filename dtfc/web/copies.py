"""PUTs that bring a copy from another node, and not a client's own wish.

A copy is told by its field ``DTFC-Replica: ?1`` (a boolean of RFC 9651). It can
only make a request weaker, so it needs no proof: what was deleted here stays
deleted, and no further copies are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.replicas.owed import Replicas
    from dtfc.store.blobs import BlobInfo
    from dtfc.web.request import Request

FIELD = "dtfc-replica"


def is_copy(request: Request) -> bool:
    """Whether another node sends a copy."""
    return [value.strip() for value in request.field(FIELD)] == ["?1"]


class Owed:
    """What a request has stored, and other nodes are to have copies of.

    Args:
        replicas: makes them; None if nothing is owed.
    """

    def __init__(self, replicas: Replicas | None) -> None:
        self._replicas = replicas
        self._stored: list[tuple[dict[str, Any], Digest, bool]] = []

    def admit(self) -> None:
        """Return if more may be owed.

        Raises:
            QueueFull: no.
        """
        if self._replicas is not None:
            self._replicas.admit()

    async def note(self, info: BlobInfo, stub: dict[str, Any]) -> None:
        """Note durably that a blob was stored.

        Args:
            info: the blob.
            stub: what its client is answered.

        Raises:
            StoreFailure: it cannot be noted.
        """
        if self._replicas is not None:
            own = await self._replicas.owe(info)
            if own is not None:
                self._stored.append((stub, info.digest, own))

    async def settle(self) -> None:
        """Wait until there are as many copies as there must be, and say in the answers how many.

        Raises:
            QuorumMissed: there are too few of one of them.
            Absent: one was deleted meanwhile.
            StoreFailure: it cannot be found out.
        """
        if self._replicas is not None:
            # All of them are on their way: the first one waits the longest.
            for stub, digest, own in self._stored:
                stub["replicas"] = await self._replicas.enough(digest, own=own)
