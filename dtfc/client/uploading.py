"""Uploads: small ones by one PUT, others so that they go on where they were cut off.

A node that takes resumable uploads says so (``OPTIONS /uploads/``, tus 1.0); one that does
not, as those of 2015, gets a PUT, which begins anew when it is cut off. In either case the
digest that the node tells in the end has to be the one that was taken here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.client.answers import Senseless, Stored, digest_of, length_of, page_of, parsed, text
from dtfc.client.failures import (
    ClientError,
    Unavailable,
    Unreachable,
    WrongBytes,
    failure_of,
)
from dtfc.client.resuming import LONGEST_PAUSE, PAUSE, TUS, Memory, Resumable
from dtfc.client.sources import Source, blocks_of
from dtfc.client.uploadstates import UploadStates
from dtfc.client.wire import Sending, Wire
from dtfc.disk import Disk
from dtfc.errors import BadDigest
from dtfc.http.digests import repr_digest

SMALL = 1024 * 1024
"""Bytes up to which a file is sent by one PUT: to begin again costs no more than to ask."""

ASK_FIRST = 64 * 1024
"""Bytes from which a PUT waits for the node to say that it will take it."""


_NO_SUCH_URL = (404, 405)

T = TypeVar("T")

Saw = Callable[[int, int | None], object]


class Uploading:
    """Sends bytes to a node.

    Args:
        wire: asks it.
        disk: where blocking work is done.
        clock: measures time.
        patience: seconds for which a node may be away in the middle.
        states: what is remembered of uploads; None to remember nothing.
    """

    def __init__(
        self,
        wire: Wire,
        disk: Disk,
        clock: IReactorTime,
        patience: float,
        states: UploadStates | None,
    ) -> None:
        self._wire = wire
        self._clock = clock
        self._patience = patience
        self._memory = Memory(disk, states)
        self._resumable: dict[str, bool] = {}

    async def put(self, node: str, source: Source, saw: Saw) -> Stored:
        """Send; as :meth:`dtfc.client.Client.put`.

        Raises:
            ClientError: the node does not have it in the end.
        """
        hashing = source.hashing() if source.digest is None else None
        try:
            if source.digest is None and hashing is not None and await self._pays(node, source):
                source.digest = await hashing.digest()
            if source.length > SMALL and await self.resumes(node):
                memory, clock = self._memory, self._clock
                work = Resumable(
                    self._wire, clock, self._patience, memory, node=node, source=source, saw=saw
                )
                stored = await work.run()
            else:
                if source.name is None and hashing is not None:
                    # Without a name it goes to where its digest says.
                    source.digest = await hashing.digest()
                stored = await self._plain(node, source, saw)
            await source.check()
            wanted = source.digest
            if wanted is None and hashing is not None:
                wanted = await hashing.digest()
            if wanted is not None and stored.digest != wanted:
                raise WrongBytes(
                    f"the node stored bytes with the digest {stored.digest.hex}; those here "
                    f"have {wanted.hex}",
                    node=node,
                )
            return stored
        finally:
            if hashing is not None:
                await hashing.stop()

    async def _pays(self, node: str, source: Source) -> bool:
        """Whether to take the digest before anything is sent.

        It does for what is small, and where the node has a file of this name and length:
        then it will most likely need no byte of it.
        """
        if source.length <= SMALL:
            return True
        if source.name is None:
            return False
        path = f"/files.json?limit=1000&name={quote(source.name, safe='')}"
        try:
            answer = await self._wire.ask("GET", node, path)
            rows = page_of(parsed(answer.body)).rows
        except (ClientError, Senseless):
            return False
        return any(row.length == source.length for row in rows)

    async def resumes(self, node: str) -> bool:
        """Whether a node takes resumable uploads.

        Raises:
            Unreachable: it does not answer.
        """
        if node not in self._resumable:
            answer = await self._wire.http.request("OPTIONS", node, "/uploads/")
            versions = answer.fields.get("tus-version", "")
            known = TUS in [each.strip() for each in versions.split(",")]
            self._resumable[node] = answer.status in (200, 204) and known
        return self._resumable[node]

    # -- one PUT ----------------------------------------------------------------

    async def _plain(self, node: str, source: Source, saw: Saw) -> Stored:
        """Send it in one request; again, if it is cut off and that costs little."""

        async def once() -> Stored:
            return await self._put_once(node, source, saw)

        return await self.patiently(once, lambda: source.length <= SMALL)

    async def _put_once(
        self, node: str, source: Source, saw: Saw, *, by_name: bool = False
    ) -> Stored:
        name = "" if source.name is None else quote(source.name, safe="")
        fields = []
        path = f"/{name}"
        if source.digest is not None:
            fields.append(("Repr-Digest", repr_digest(source.digest)))
            if not (name and by_name):
                path = f"/{source.digest.hex}" + (f"/{name}" if name else "")
        sent = 0
        reader = await source.open(0)

        def left(count: int) -> None:
            nonlocal sent
            sent += count
            saw(sent, source.length)

        asks = source.length > ASK_FIRST
        body = Sending(source.length, blocks_of(reader), ask_first=asks, saw=left)
        try:
            answer = await self._wire.http.convey("PUT", node, path, body, fields)
        finally:
            await reader.close()
        if answer.status in _NO_SUCH_URL and source.digest is not None and name and not by_name:
            # Not every node knows this way of saying it.
            return await self._put_once(node, source, saw, by_name=True)
        if answer.status not in (200, 201):
            raise failure_of(node, answer.status, answer.fields, answer.body)
        return stored_of(node, answer.body, new=answer.status == 201, sent=sent)

    async def patiently(
        self, once: Callable[[], Awaitable[T]], worthwhile: Callable[[], bool]
    ) -> T:
        """Do something again while a node is away for a moment.

        Args:
            once: what to do.
            worthwhile: asked after a failure whether to try again at all.

        Raises:
            ClientError: what it failed with, if that lasts.
        """
        began = self._clock.seconds()
        while True:
            try:
                return await once()
            except (Unavailable, Unreachable) as error:
                waits = isinstance(error, Unavailable) and error.retry_after is not None
                refused = "refused" in error.detail
                passed = self._clock.seconds() - began
                if passed >= self._patience or not (waits or (worthwhile() and not refused)):
                    raise
                pause = min(float(error.retry_after or PAUSE), LONGEST_PAUSE)
                await deferLater(self._clock, pause)


def stored_of(node: str, body: bytes, *, new: bool | None, sent: int) -> Stored:
    """Read a PUT's answer.

    Raises:
        Unreachable: it makes no sense.
    """
    try:
        told = parsed(body)
        copies = told.get("replicas")
        replicas = copies if isinstance(copies, int) else None
        name = text(told, "filename")
        return Stored(digest_of(told), length_of(told), name, new, sent, replicas)
    except (Senseless, BadDigest) as error:
        raise Unreachable(str(error), node=node) from error
