"""Nodes that pull a whole blob: so many at once are sent to (``--peer-receivers``).

A request that says which node makes it (``DTFC-Node``), and asks for more than a
few MiB at once, needs a place. Who gets none is told so before anything is sent;
who loses his to somebody who stands higher in the digest's tree is sent nothing
further, and the connection closed behind what was sent. Both know it by the field
``DTFC-Gives-Way``, and ask elsewhere. Clients need no place, nor do nodes that do
not say who they are, or do not stand in this node's list: they have no tree in
common with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from dtfc.errors import GivesWay
from dtfc.http.ranges import Span
from dtfc.http.replies import GIVES_WAY, YES
from dtfc.peers.receivers import LARGE, Place, Receivers

if TYPE_CHECKING:
    from collections.abc import Callable

    from dtfc.digest import Digest
    from dtfc.disk import Lane
    from dtfc.web.request import Request
    from dtfc.web.transmit import Source

FIELD = "dtfc-node"


class Bound:
    """Lets in who may be sent a blob.

    Args:
        receivers: decides it.
        listed: whether a URL is one of the peers in force.
        proven: whether what a request says of its sender is to be believed.
        now: seconds.
    """

    def __init__(
        self,
        receivers: Receivers,
        listed: Callable[[str], bool],
        proven: Callable[[Request], bool],
        now: Callable[[], float],
    ) -> None:
        self.receivers = receivers
        self._listed = listed
        self._proven = proven
        self._now = now

    def let_in(
        self, request: Request, digest: Digest, parts: Sequence[bytes | Span], source: Source
    ) -> Admitted:
        """Return how to send a blob to whoever asks.

        Args:
            request: the answer's head says whether it may have to give way.
            digest: of the blob.
            parts: of the answer.
            source: what is sent.

        Raises:
            GivesWay: nothing is to be sent now.
        """
        node = self._who(request) if self.receivers.most else None
        count = sum(part.length for part in parts if isinstance(part, Span))
        if node is None or count <= LARGE:
            return Admitted(source)
        place = self.receivers.let_in(digest, node, self._now())
        if place is None:
            raise GivesWay
        request.put(GIVES_WAY, YES)
        return Admitted(_Yielding(source, place), self.receivers, place)

    def _who(self, request: Request) -> str | None:
        """Return which of the peers asks; None for anybody else."""
        said = request.field(FIELD)
        known = len(said) == 1 and self._listed(said[0]) and self._proven(request)
        return said[0] if known else None


class Admitted(AbstractContextManager["Source"]):
    """What is sent to somebody, while it is.

    Args:
        source: what.
        receivers: whom the place is given back to.
        place: None if none is needed.
    """

    def __init__(
        self, source: Source, receivers: Receivers | None = None, place: Place | None = None
    ) -> None:
        self._source = source
        self._receivers = receivers
        self._place = place

    def __enter__(self) -> Source:
        return self._source

    def __exit__(self, *exc_info: object) -> None:
        if self._receivers is not None and self._place is not None:
            self._receivers.leave(self._place)


class _Yielding:
    """A source that ends when somebody else gets the place."""

    def __init__(self, source: Source, place: Place) -> None:
        # What is under way cannot be taken back.
        self.stretch = min(source.stretch, LARGE)
        self._source = source
        self._place = place

    def step(self, offset: int, count: int) -> int:
        """Return how many of these bytes to send at once."""
        return self._source.step(offset, count)

    def ready(self, offset: int, count: int) -> int:
        """Return the file from which these bytes may leave at once; -1 if from none yet.

        Raises:
            GivesWay: no more is to be sent.
        """
        self._look()
        return self._source.ready(offset, count)

    async def prepare(self, lane: Lane, offset: int, count: int) -> int:
        """Make these bytes ready to leave, and return the file from which they may.

        Raises:
            GivesWay: no more is to be sent.
        """
        self._look()
        fd = await self._source.prepare(lane, offset, count)
        self._look()
        return fd

    def _look(self) -> None:
        if self._place.lost:
            raise GivesWay
