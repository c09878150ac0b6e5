"""Uploads that go on where they were cut off (tus 1.0).

How much the node has, it says itself: nothing is believed that is remembered here, but where
the upload is.
"""

from __future__ import annotations

import base64
import re
import time
from urllib.parse import urlsplit

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.client.answers import Senseless, Stored, digest_of, length_of, parsed, text
from dtfc.client.failures import (
    NotFound,
    Rejected,
    Unavailable,
    Unreachable,
    WrongBytes,
    failure_of,
)
from dtfc.client.flow import Saw
from dtfc.client.sources import Source, blocks_of
from dtfc.client.talk import Answer
from dtfc.client.uploadstates import UploadStates
from dtfc.client.wire import Sending, Wire
from dtfc.digest import Digest
from dtfc.disk import Disk

PAUSE = 1.0
"""Seconds between two attempts, where the node names none."""

LONGEST_PAUSE = 10.0
"""No node makes a client wait longer than so many seconds before it tries again."""

TUS = "1.0.0"
_TUS = ("Tus-Resumable", TUS)
_OFFSET = "application/offset+octet-stream"
_UPLOAD = re.compile(r"/uploads/[A-Za-z0-9_-]{1,200}\Z")
_COUNT = re.compile(r"[0-9]{1,19}\Z")
_MOST_CREATED = 3


class Memory:
    """Which uploads were begun.

    Args:
        disk: where files are read and written.
        states: what is remembered; None to remember nothing.
    """

    def __init__(self, disk: Disk, states: UploadStates | None) -> None:
        self._disk = disk
        self._states = states

    async def find(self, node: str, source: Source) -> str | None:
        """Return the address of an upload of this that was begun before."""
        if self._states is None or source.key is None:
            return None
        await self._disk.run(self._states.sweep, time.time())
        return await self._disk.run(self._states.find, node, source.key, source.name)

    async def keep(self, node: str, source: Source, upload: str) -> None:
        """Remember the address of an upload."""
        if self._states is not None and source.key is not None:
            await self._disk.run(self._states.keep, node, source.key, source.name, upload)

    async def forget(self, node: str, source: Source) -> None:
        """Remember it no longer."""
        if self._states is not None and source.key is not None:
            await self._disk.run(self._states.forget, node, source.key, source.name)


class Resumable:
    """One resumable upload (tus 1.0).

    Args:
        wire: asks the node.
        clock: measures time.
        patience: seconds for which the node may be away in the middle.
        memory: of uploads that were begun.
        node: where to.
        source: what.
        saw: told how many bytes the node has.
    """

    def __init__(
        self,
        wire: Wire,
        clock: IReactorTime,
        patience: float,
        memory: Memory,
        *,
        node: str,
        source: Source,
        saw: Saw,
    ) -> None:
        self._wire = wire
        self._clock = clock
        self._patience = patience
        self._memory = memory
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
        clock, patience = self._clock, self._patience
        self._path = await self._memory.find(self._node, self._source) or ""
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
                await self._memory.forget(self._node, self._source)
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
        answer = await self._wire.ask(
            "POST", self._node, "/uploads/", b"", fields=fields, good=(201,)
        )
        path = _path_in(answer.fields.get("location", ""))
        if not _UPLOAD.match(path):
            raise Unreachable("says no address of the upload that makes sense", node=self._node)
        self._take_offset(answer.fields.get("upload-offset", "0"))
        self._path = path
        if self._source.length and self._offset >= self._source.length:
            self._new = False
        self._saw(self._offset, self._source.length)
        await self._memory.keep(self._node, self._source, path)

    async def _look(self) -> None:
        """Find out how much the node has.

        Raises:
            ClientError: it knows nothing of the upload (NotFound), or does not say.
        """
        answer = await self._wire.http.request("HEAD", self._node, self._path, None, [_TUS])
        if answer.status not in (200, 204):
            raise failure_of(self._node, answer.status, answer.fields, b"")
        offset, length = answer.fields.get("upload-offset", ""), answer.fields.get("upload-length")
        if length is not None and length != str(self._source.length):
            raise NotFound("this is the upload of something else", node=self._node)
        self._take_offset(offset)
        self._saw(self._offset, self._source.length)

    def _take_offset(self, text: str) -> None:
        offset = _offset(text)
        if not 0 <= offset <= self._source.length:
            raise Unreachable("says no offset that makes sense", node=self._node)
        self._offset = offset

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
        body = Sending(self._source.length - start, blocks_of(reader), saw=moved)
        fields = [_TUS, ("Upload-Offset", str(start)), ("Content-Type", _OFFSET)]
        try:
            answer = await self._wire.http.convey("PATCH", self._node, self._path, body, fields)
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
        answer = await self._wire.ask("GET", self._node, self._path)
        stored = _finished(self._node, answer)
        if stored is None:
            raise Unreachable("has it all, and has not stored it yet", node=self._node)
        await self._memory.forget(self._node, self._source)
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


def _path_in(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _offset(text: str) -> int:
    return int(text) if _COUNT.match(text) else -1


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
