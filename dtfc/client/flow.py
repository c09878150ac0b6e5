"""The bytes of a blob in order, handed on as they come, and hashed."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from dtfc.client.failures import WrongBytes
from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.peers.client import Reply

Saw = Callable[[int, int | None], object]
"""Told how many bytes are there, and how many there will be, if that is known."""


@dataclass(frozen=True, slots=True)
class Got:
    """A blob that is here.

    Args:
        digest: of its bytes, compared here.
        length: in bytes.
        name: the file name that a node gave.
        path: of the file; None if it went through a function.
        resumed: bytes that were here already.
        from_nodes: bytes that came, by the node that sent them.
    """

    digest: Digest
    length: int
    name: str | None
    path: str | None
    resumed: int = 0
    from_nodes: dict[str, int] = field(default_factory=dict)


class Flow:
    """The bytes of a blob in order."""

    def __init__(
        self,
        digest: Digest,
        disk: Disk,
        take: Callable[[bytes], Awaitable[None] | None],
        saw: Saw,
    ) -> None:
        self.at = 0
        self.total: int | None = None
        self.name: str | None = None
        self._digest = digest
        self._disk = disk
        self._take = take
        self._saw = saw
        self._sha512 = hashlib.sha512()
        self._from: dict[str, int] = {}

    @property
    def over(self) -> bool:
        """Whether all of it was handed on."""
        return self.total is not None and self.at >= self.total

    async def take(self, node: str, reply: Reply, start: int, total: int) -> str | None:
        """Hand a body on; return why less came than the rest, or None."""
        self.total = total
        body = reply.take(self.at - start, total - self.at)
        try:
            while blocks := await body.read():
                for block in blocks:
                    await self._disk.run(self._sha512.update, block)
                    taken = self._take(block)
                    if inspect.isawaitable(taken):
                        await taken
                    self.at += len(block)
                    self._from[node] = self._from.get(node, 0) + len(block)
                self._saw(self.at, total)
        finally:
            body.abort("is not wanted any more")
        return body.cut

    def end(self, nodes: Iterable[str]) -> Got:
        """Compare the digest."""
        if self._sha512.digest() != self._digest.raw:
            raise wrong(self._digest, [each for each in nodes if each in self._from])
        return Got(self._digest, self.at, self.name, None, 0, self._from)


def wrong(digest: Digest, nodes: Iterable[str]) -> WrongBytes:
    """Return the error for bytes of these nodes that are not the blob."""
    return WrongBytes(
        f"what came from {', '.join(sorted(nodes))} does not have the digest {digest.hex}"
    )
