"""Blobs from one node to another, by their names: what the other one lacks.

Bytes go from the one connection to the other as they come, and nothing of them is written
here. The node that takes them is told the digest beforehand, so it takes no others.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dtfc.client.answers import Row, Stored
from dtfc.client.failures import ClientError, Unreachable, failure_of
from dtfc.client.sources import Hashing, Reader
from dtfc.client.wire import NodeHTTP
from dtfc.digest import Digest
from dtfc.http.replies import Refusal, judge_reply
from dtfc.peers.body import Body
from dtfc.peers.failure import PeerFailure
from dtfc.peers.slots import Slots

JOBS = 2
"""Blobs that are copied at once."""

_SPECIAL = "*?["

Outcome = Literal["copied", "there", "deleted", "failed"]


@dataclass(slots=True)
class Mirrored:
    """What a mirroring came to, so far.

    Args:
        looked_at: names that fit.
        copied: blobs that the other node lacked, and has now.
        length: their bytes.
        there: blobs that it had.
        deleted: blobs that were deleted there, and stay so.
        failed: names, and why they could not be copied.
    """

    looked_at: int = 0
    copied: int = 0
    length: int = 0
    there: int = 0
    deleted: int = 0
    failed: list[tuple[str, ClientError]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Blob:
    """One of them, for whoever wants to see it.

    Args:
        row: its name and digest.
        outcome: what became of it; None while it is being copied.
        stored: what the other node said; None if it was not copied.
        error: why it could not be.
    """

    row: Row
    outcome: Outcome | None = None
    stored: Stored | None = None
    error: ClientError | None = None


class RemoteSource:
    """The bytes of a blob at another node, as the source of an upload.

    Args:
        http: asks it.
        node: its URL.
        row: which blob, and its name.
        length: in bytes.
    """

    def __init__(self, http: NodeHTTP, node: str, row: Row, length: int) -> None:
        self.length = length
        self.name: str | None = row.name
        self.key: str | None = f"{node}\0{row.digest.hex}"
        self.digest: Digest | None = row.digest
        self._hex = row.digest.hex
        self._http = http
        self._node = node

    async def open(self, at: int) -> Reader:
        """Ask for the bytes from an offset on.

        Raises:
            ClientError: the node does not send them.
        """
        if at >= self.length:
            return _Nothing()
        try:
            reply = await self._http.ask("GET", self._node, self._hex, at)
        except PeerFailure as failure:
            raise Unreachable(failure.reason, node=self._node) from failure
        judged = judge_reply(reply.status, reply.fields, at, self.length, self._hex)
        if isinstance(judged, Refusal):
            reply.drop()
            if judged.kind == "wrong":
                raise Unreachable(judged.reason, node=self._node)
            told = {name: value for name in ("retry-after",) for value in reply.fields(name)}
            raise failure_of(self._node, reply.status, told, b"")
        return _Remote(self._node, reply.take(at - judged.start, self.length - at))

    def hashing(self) -> Hashing | None:
        """The digest is known."""
        return None

    async def check(self) -> None:
        """What a digest names cannot change."""


class _Nothing:
    async def read(self) -> bytes:
        return b""

    async def close(self) -> None:
        """There is nothing to be closed."""


class _Remote:
    """A body that is on its way."""

    def __init__(self, node: str, body: Body) -> None:
        self._node = node
        self._body = body

    async def read(self) -> bytes:
        blocks = await self._body.read()
        if not blocks and self._body.cut is not None:
            raise Unreachable(self._body.cut, node=self._node)
        return b"".join(blocks)

    async def close(self) -> None:
        self._body.abort("is not wanted any more")


class Mirroring:
    """Copies what fits a pattern.

    Args:
        look: tells whether the other one has a blob: None if it lacks it, else how it
            stands.
        copy: copies one blob.
        jobs: blobs at once.
        saw: told of each.
    """

    def __init__(
        self,
        look: Callable[[Row], Deferred[Outcome | None]],
        copy: Callable[[Row], Deferred[Stored]],
        jobs: int,
        saw: Callable[[Blob], object],
    ) -> None:
        self.so_far = Mirrored()
        self._look = look
        self._copy = copy
        self._slots = Slots(jobs)
        self._saw = saw
        self._seen: set[Digest] = set()
        self._running: set[Deferred[None]] = set()

    async def take(self, row: Row) -> None:
        """Copy one more, beside the others; waits for a place."""
        self.so_far.looked_at += 1
        if row.digest in self._seen:
            # Another name of what is being copied, or was.
            return
        self._seen.add(row.digest)
        await self._slots.take()
        running: Deferred[None] = Deferred.fromCoroutine(self._one(row))
        self._running.add(running)
        running.addBoth(self._ended, running)

    async def finish(self) -> None:
        """Wait for those that are under way."""
        for each in list(self._running):
            await _over(each)

    async def stop(self) -> None:
        """Give up those that are under way."""
        for each in list(self._running):
            each.cancel()
        await self.finish()

    def _ended(self, result: Failure | None, running: Deferred[None]) -> Failure | None:
        self._running.discard(running)
        self._slots.give_back()
        if isinstance(result, Failure) and result.check(CancelledError):
            return None
        return result

    async def _one(self, row: Row) -> None:
        so_far = self.so_far
        try:
            outcome = await self._look(row)
            if outcome is not None:
                so_far.there += outcome == "there"
                so_far.deleted += outcome == "deleted"
                self._saw(Blob(row, outcome))
                return
            self._saw(Blob(row))
            stored = await self._copy(row)
        except ClientError as error:
            so_far.failed.append((row.name, error))
            self._saw(Blob(row, "failed", error=error))
            return
        so_far.copied += 1
        so_far.length += stored.length
        self._saw(Blob(row, "copied", stored))


async def _over(running: Deferred[None]) -> None:
    """Wait until something has ended; its failure stays its own."""
    ended: Deferred[None] = Deferred()

    def tell(result: object) -> object:
        if not ended.called:
            ended.callback(None)
        return result

    running.addBoth(tell)
    await ended


def fixed_part(pattern: str) -> str:
    """Return what all names begin with that fit a pattern (``*``, ``?``, ``[abc]``)."""
    for at, character in enumerate(pattern):
        if character in _SPECIAL:
            return pattern[:at]
    return pattern


def fits(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern."""
    return fnmatch.fnmatchcase(name, pattern)
