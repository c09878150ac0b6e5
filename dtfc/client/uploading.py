"""Uploads: small ones by one PUT, others so that they go on where they were cut off.

A node that takes resumable uploads says so (``OPTIONS /uploads/``, tus 1.0); one that does
not, as those of 2015, gets a PUT, which begins anew when it is cut off. In either case the
digest that the node tells in the end has to be the one that was taken here.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import quote, urlsplit

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.client.answers import Senseless, Stored, digest_of, length_of, page_of, parsed, text
from dtfc.client.failures import (
    ClientError,
    LocalTrouble,
    NotFound,
    Rejected,
    Unavailable,
    Unreachable,
    WrongBytes,
    failure_of,
)
from dtfc.client.sources import Reader, Source
from dtfc.client.uploadstates import UploadStates
from dtfc.client.wire import Answer, Sending, Wire
from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import BadDigest
from dtfc.http.digests import repr_digest

SMALL = 1024 * 1024
"""Bytes up to which a file is sent by one PUT: to begin again costs no more than to ask."""

ASK_FIRST = 64 * 1024
"""Bytes from which a PUT waits for the node to say that it will take it."""

PAUSE = 1.0
LONGEST_PAUSE = 10.0

TUS = "1.0.0"
_TUS = ("Tus-Resumable", TUS)
_OFFSET = "application/offset+octet-stream"
_UPLOAD = re.compile(r"/uploads/[A-Za-z0-9_-]{1,200}\Z")
_MOST_CREATED = 3
_NO_SUCH_URL = (404, 405)
_COUNT = re.compile(r"[0-9]{1,19}\Z")

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
        self._disk = disk
        self._clock = clock
        self._patience = patience
        self._states = states
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
                work = _Upload(self, node, source, saw)
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
        body = Sending(source.length, _whole_blocks(reader), ask_first=asks, saw=left)
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

    # -- what an upload works with ---------------------------------------------------

    @property
    def wire(self) -> Wire:
        """Asks nodes."""
        return self._wire

    @property
    def clock(self) -> IReactorTime:
        """Measures time."""
        return self._clock

    @property
    def patience(self) -> float:
        """Seconds for which a node may be away."""
        return self._patience

    async def remembered(self, node: str, source: Source) -> str | None:
        """Return the address of an upload of this that was begun before."""
        if self._states is None or source.key is None:
            return None
        self._states.sweep(time.time())
        return await self._disk.run(self._states.find, node, source.key, source.name)

    async def remember(self, node: str, source: Source, upload: str | None) -> None:
        """Remember the address of an upload, or (None) no more."""
        if self._states is None or source.key is None:
            return
        if upload is None:
            await self._disk.run(self._states.forget, node, source.key, source.name)
        else:
            await self._disk.run(self._states.keep, node, source.key, source.name, upload)


class _Upload:
    """One resumable upload (tus 1.0).

    Args:
        around: what it works with.
        node: where to.
        source: what.
        saw: told how many bytes the node has.
    """

    def __init__(self, around: Uploading, node: str, source: Source, saw: Saw) -> None:
        self._around = around
        self._node = node
        self._source = source
        self._saw = saw
        self._path = ""
        self._offset = 0
        self._sent = 0
        self._new: bool | None = None
        self._location: str | None = None
        self._created = 0
        self._known = False
        """Whether the offset is what the node said last."""

    async def run(self) -> Stored:
        """Send what the node does not have yet."""
        clock, patience = self._around.clock, self._around.patience
        self._path = await self._around.remembered(self._node, self._source) or ""
        resumed = bool(self._path)
        since, furthest = clock.seconds(), -1
        while True:
            try:
                return await self._go_on()
            except NotFound:
                if not self._path:
                    raise
                # It expired, or was of another life of the node: from the beginning.
                self._path = ""
                await self._around.remember(self._node, self._source, None)
            except (Unavailable, Unreachable) as error:
                self._known = False
                if self._offset > furthest:
                    furthest, since = self._offset, clock.seconds()
                begun = resumed or self._sent > 0 or self._offset > 0
                asked = error.retry_after is not None
                if not (begun or asked) or clock.seconds() - since >= patience:
                    raise
                await deferLater(clock, min(float(error.retry_after or PAUSE), LONGEST_PAUSE))

    async def _go_on(self) -> Stored:
        """Do what is left to do, once."""
        if not self._path:
            if self._created > _MOST_CREATED:
                raise Rejected("the node forgets each upload as soon as it has begun")
            await self._create()
            self._created += 1
        elif not self._known:
            await self._look()
        self._known = True
        if self._offset < self._source.length:
            await self._send()
        return await self._end()

    async def _create(self) -> None:
        """Begin an upload.

        Raises:
            ClientError: the node does not take it.
        """
        metadata = []
        if self._source.name is not None:
            metadata.append(f"filename {_base64(self._source.name)}")
        if self._source.digest is not None:
            metadata.append(f"sha512 {_base64(self._source.digest.hex)}")
        fields = [_TUS, ("Upload-Length", str(self._source.length))]
        if metadata:
            fields.append(("Upload-Metadata", ",".join(metadata)))
        answer = await self._around.wire.ask(
            "POST", self._node, "/uploads/", b"", fields=fields, good=(201,)
        )
        path = urlsplit(answer.fields.get("location", "")).path
        if not _UPLOAD.match(path):
            raise Unreachable("says no address of the upload that makes sense", node=self._node)
        self._path = path
        self._offset = _offset(answer.fields.get("upload-offset", "0"))
        if self._source.length and self._offset >= self._source.length:
            self._new = False
        self._saw(self._offset, self._source.length)
        await self._around.remember(self._node, self._source, path)

    async def _look(self) -> None:
        """Find out how much the node has.

        Raises:
            ClientError: it knows nothing of the upload (NotFound), or does not say.
        """
        answer = await self._around.wire.http.request("HEAD", self._node, self._path, None, [_TUS])
        if answer.status not in (200, 204):
            raise failure_of(self._node, answer.status, answer.fields, b"")
        offset, length = answer.fields.get("upload-offset", ""), answer.fields.get("upload-length")
        if length is not None and length != str(self._source.length):
            raise NotFound("this is the upload of something else", node=self._node)
        self._offset = _offset(offset)
        if not 0 <= self._offset <= self._source.length:
            raise Unreachable("says no offset that makes sense", node=self._node)
        self._saw(self._offset, self._source.length)

    async def _send(self) -> None:
        """Send the rest in one request.

        Raises:
            ClientError: the node does not have it all.
        """
        start = self._offset
        left = 0

        def moved(count: int) -> None:
            nonlocal left
            left += count
            self._sent += count
            self._saw(start + left, self._source.length)

        reader = await self._source.open(start)
        body = Sending(self._source.length - start, _whole_blocks(reader), saw=moved)
        fields = [_TUS, ("Upload-Offset", str(start)), ("Content-Type", _OFFSET)]
        try:
            answer = await self._around.wire.http.convey(
                "PATCH", self._node, self._path, body, fields
            )
        finally:
            await reader.close()
        if answer.status == 409:
            # Somebody else has sent some of it; or what was left of an older request.
            raise Unreachable("is further on than it said", node=self._node)
        if answer.status not in (200, 201, 204):
            raise failure_of(self._node, answer.status, answer.fields, answer.body)
        self._offset = _offset(answer.fields.get("upload-offset", str(self._source.length)))
        if self._offset < self._source.length:
            raise Unreachable("took only a part of it", node=self._node)
        self._location = answer.fields.get("content-location")

    async def _end(self) -> Stored:
        """Learn what the node has stored.

        Raises:
            ClientError: it does not say.
        """
        answer = await self._around.wire.ask("GET", self._node, self._path)
        stored = _finished(self._node, answer)
        if stored is None:
            raise Unreachable("has it all, and has not stored it yet", node=self._node)
        await self._around.remember(self._node, self._source, None)
        digest, length, name, replicas = stored
        if self._location is not None and not self._location.endswith(digest.hex):
            raise WrongBytes("the node names two digests for one upload", node=self._node)
        return Stored(digest, length, name, self._new, self._sent, replicas)


def _finished(node: str, answer: Answer) -> tuple[Digest, int, str | None, int | None] | None:
    """Read what a node says of an upload; None if nothing is stored yet.

    Raises:
        Unreachable: it makes no sense.
    """
    try:
        told = parsed(answer.body).get("stored")
        if not isinstance(told, dict):
            return None
        copies = told.get("replicas")
        replicas = copies if isinstance(copies, int) else None
        return digest_of(told), length_of(told), text(told, "filename"), replicas
    except Senseless as error:
        raise Unreachable(str(error), node=node) from error


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


def _whole_blocks(reader: Reader) -> Callable[[], Awaitable[bytes]]:
    """Return what reads the next block, which is never empty."""

    async def read() -> bytes:
        block = await reader.read()
        if not block:
            raise LocalTrouble("what is to be sent is shorter than it was")
        return block

    return read


def _offset(text: str) -> int:
    return int(text) if _COUNT.match(text) else -1


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
