"""Bytes on their way between a database and a node, hashed as they pass.

Rules of this file: two blocks of an attachment are in memory, however large it is
and whichever side is slow. The last block is held back until all of them came
and were found right, so that no side stores what is not whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote, urlencode

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from dtfc.access.sessions import Credential
from dtfc.couchdb.client import Couch
from dtfc.couchdb.documents import Reference, parse_json
from dtfc.couchdb.migrating import (
    Attachment,
    Stored,
    attachment_path,
    blob_name,
    field_value,
)
from dtfc.errors import CouchUnreached, DtfcError
from dtfc.peers.client import PeerHTTP, Upload
from dtfc.peers.failure import PeerFailure
from dtfc.peers.sending import Refused

#: Seconds without a byte after which a transfer is given up.
SILENCE = 60.0

#: Bytes of a body from which on the receiver is asked first whether it takes it.
ASKED_FIRST = 1024 * 1024

#: Bytes of an answer to a PUT.
SMALL = 256 * 1024


class Away(DtfcError):
    """A server does not answer, or cannot just now: it is asked again."""


class Unfit(DtfcError):
    """Something of one document cannot be done; others can."""


class Stopped(DtfcError):
    """Nothing can be done any more."""


class Channel:
    """Blocks from one side to the other.

    Args:
        length: bytes that have to come.
        check: called when they came; raises Unfit if they are the wrong ones.
        handed_on: whether somebody reads them; else they are hashed only.
    """

    def __init__(
        self, length: int, check: Callable[[Channel], None], *, handed_on: bool = True
    ) -> None:
        self.sha512 = hashlib.sha512()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.error: DtfcError | None = None
        self._length = length
        self._check = check
        self._handed_on = handed_on
        self._count = 0
        self._waiting: list[bytes] = []
        self._ended = False
        self._reader: Deferred[None] | None = None
        self._room: Deferred[None] | None = None

    def heard(self, block: bytes) -> Deferred[None] | None:
        """Take a block; what is returned fires when there is room for the next one.

        Raises:
            Unfit: more comes than should.
        """
        self._count += len(block)
        if self._count > self._length:
            raise Unfit(f"it has more than the {self._length} bytes that its document says")
        self.sha512.update(block)
        self.md5.update(block)
        if not self._handed_on:
            return None
        self._waiting.append(block)
        if len(self._waiting) == 1:
            return None
        self._room = room = Deferred[None](lambda _: None)
        self._wake()
        return room

    async def read(self) -> bytes:
        """Return the next block.

        Raises:
            DtfcError: no further one is going to come.
        """
        while not self._waiting or (len(self._waiting) == 1 and not self._ended):
            if self.error is not None:
                raise self.error
            # Fired by _wake, or cancelled with who waits.
            self._reader = Deferred(lambda _: None)
            await self._reader
        block = self._waiting.pop(0)
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)
        return block

    def end(self) -> None:
        """All came.

        Raises:
            Unfit: they are not what they should be.
        """
        if self._count != self._length:
            raise Unfit(f"{self._count} bytes came, and its document says {self._length}")
        self._check(self)
        self._ended = True
        self._wake()

    def fail(self, error: DtfcError) -> None:
        """No more is going to come."""
        self.error = error
        self._waiting.clear()
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.called:
            reader.callback(None)


class Mover:
    """Moves the bytes of one attachment at a time.

    Args:
        couch: where the database is.
        credential: of a user who may write its documents.
        database: its name.
        node: asked for blobs; the same client, for a node is asked as simply.
        token: that the node takes, if it wants one.
        http: for bodies, to either.
        clock: measures silence.
    """

    def __init__(  # noqa: PLR0917 -- two sides, and what is between them
        self,
        couch: Couch,
        credential: Credential | None,
        database: str,
        node: Couch,
        token: str | None,
        http: PeerHTTP,
        clock: IReactorTime,
    ) -> None:
        self._couch = couch
        self._credential = credential
        self._database = database
        self._node = node
        self._token = None if token is None else Credential("bearer", token)
        self._http = http
        self._clock = clock

    async def to_node(self, document_id: str, revision: str, attachment: Attachment) -> Stored:
        """Store an attachment at the node.

        Raises:
            Away: either side does not answer.
            Unfit: the bytes are not what the document says, or the node does not take them.
            Stopped: the node takes nothing of us.
        """
        channel = Channel(attachment.length, _md5_of(attachment))
        path = _revision(attachment_path(self._database, document_id, attachment.name), revision)
        url = f"{self._node.url}/{quote(blob_name(attachment.name), safe='')}"
        content_type = field_value(attachment.content_type)
        status, body = await self._pour(
            channel, attachment.length, self._couch, path, url, self._token, content_type
        )
        if status not in {200, 201}:
            raise _node_says(status, body)
        digest = channel.sha512.hexdigest()
        try:
            answer = parse_json(body)
            agreed = (answer["sha512"], answer["length"]) == (digest, attachment.length)
        except (ValueError, KeyError, TypeError):
            raise Stopped("the node's answer to a PUT makes no sense: is it a node?") from None
        if not agreed:
            raise Unfit("the node has stored other bytes than were sent")
        return Stored(digest, attachment.length)

    async def digest_of(self, document_id: str, revision: str, attachment: Attachment) -> Stored:
        """Read an attachment, and return what it is.

        Raises:
            Away, Unfit: as above.
        """
        channel = Channel(attachment.length, _md5_of(attachment), handed_on=False)
        path = _revision(attachment_path(self._database, document_id, attachment.name), revision)
        await self._receive(channel, self._couch, path, channel.heard)
        return Stored(channel.sha512.hexdigest(), attachment.length)

    async def length_at_node(self, reference: Reference) -> int:
        """Return the length of a blob at the node.

        Raises:
            Away: it does not answer.
            Unfit: it does not have it.
        """
        try:
            answer = await self._node.ask(
                "GET", f"/{reference.digest.hex}/info", self._token, SMALL
            )
        except CouchUnreached as error:
            raise Away(f"the node: {error.reason}") from None
        if answer.status == 404 and reference.length is not None:
            return reference.length  # A peer may have it: the GET asks.
        if answer.status != 200:
            raise _node_says(answer.status, answer.body)
        try:
            length = parse_json(answer.body)["length"]
        except (ValueError, KeyError, TypeError):
            length = None
        if type(length) is not int:
            raise Away("the node: its answer makes no sense")
        return length

    async def begins_with(self, reference: Reference, found: Stored) -> bool:
        """Whether a blob begins with all the bytes of an attachment, and goes on.

        Raises:
            Away, Unfit: as above.
        """
        length = await self.length_at_node(reference)
        if found.length >= length:
            return False
        first, left = hashlib.sha512(), found.length
        channel = Channel(length, lambda _channel: None, handed_on=False)

        def heard(block: bytes) -> Deferred[None] | None:
            nonlocal left
            first.update(block[:left])
            left = max(0, left - len(block))
            return channel.heard(block)

        await self._receive(channel, self._node, f"/{reference.digest.hex}", heard)
        return first.hexdigest() == found.sha512

    async def to_couch(self, document_id: str, revision: str, reference: Reference) -> str:
        """Make an attachment of a blob; return the document's new revision.

        Raises:
            Away: either side does not answer.
            Unfit: the node does not have it, or CouchDB does not take it.
            Conflict: the document has been changed meanwhile.
        """
        length = await self.length_at_node(reference)

        def right(channel: Channel) -> None:
            if channel.sha512.hexdigest() != reference.digest.hex:
                raise Unfit("the node sent other bytes than the digest says")

        channel = Channel(length, right)
        path = _revision(attachment_path(self._database, document_id, reference.name), revision)
        status, body = await self._pour(
            channel,
            length,
            self._node,
            f"/{reference.digest.hex}",
            f"{self._couch.url}{path}",
            self._credential,
            field_value(reference.content_type),
        )
        return revision_of(status, body)

    async def _pour(  # noqa: PLR0917 -- from where to where
        self,
        channel: Channel,
        length: int,
        source: Couch,
        path: str,
        url: str,
        credential: Credential | None,
        content_type: str,
    ) -> tuple[int, bytes]:
        """Get from one side, PUT at the other; return the status and body of the PUT's answer."""
        receiving = Deferred.fromCoroutine(self._receive(channel, source, path, channel.heard))
        if not length:
            await receiving
        # Its failure is the channel's, and so the sender's.
        receiving.addErrback(lambda failure: failure.trap(DtfcError, CancelledError) and None)
        fields = [("Content-Type", content_type), ("Accept", "application/json")]
        fields += [] if credential is None else [credential.field]
        upload = Upload(length, channel.read, tuple(fields), ask_first=length >= ASKED_FIRST)
        whom = "the node" if source is self._couch else "CouchDB"
        try:
            reply = await self._http.send(url, upload)
            size = reply.fields("content-length")
            if size and int(size[0]) > SMALL:
                reply.drop()
                raise Away(f"{whom}: its answer is too long")
            body = reply.take(0, int(size[0]) if size else SMALL)
            blocks: list[bytes] = []
            while found := await body.read():
                blocks += found
            return reply.status, b"".join(blocks)
        except Refused as error:
            return error.status, b""
        except PeerFailure as error:
            raise channel.error or Away(f"{whom}: {error.reason}") from None
        finally:
            receiving.cancel()

    async def _receive(
        self,
        channel: Channel,
        source: Couch,
        path: str,
        heard: Callable[[bytes], Deferred[None] | None],
    ) -> None:
        whom: Literal["CouchDB", "the node"] = "CouchDB" if source is self._couch else "the node"
        credential = self._credential if source is self._couch else self._token
        try:
            try:
                status = await source.stream(
                    path, credential, heard, silence=SILENCE, fields={"Accept": "*/*"}
                )
            except CouchUnreached as error:
                raise Away(f"{whom}: {error.reason}") from None
            if status >= 500 or status in {408, 429}:
                raise Away(f"{whom} answered {status}")
            if status != 200:
                raise Unfit(f"{whom} answered {status} to a GET of the bytes")
            channel.end()
        except DtfcError as error:
            channel.fail(error)
            raise


class Conflict(DtfcError):
    """Somebody else has changed the document."""


def revision_of(status: int, body: bytes) -> str:
    """Return the revision that CouchDB made.

    Raises:
        Away: it cannot just now.
        Conflict: it is another document by now.
        Unfit: it refuses.
    """
    try:
        said = parse_json(body)
    except ValueError:
        said = None
    said = said if isinstance(said, dict) else {}
    if status in {200, 201, 202}:
        if not isinstance(said.get("rev"), str):
            raise Away("CouchDB: its answer to a PUT makes no sense")
        return str(said["rev"])
    if status == 409:
        raise Conflict("it is changed all the time")
    reason = said.get("reason")
    why = f": {reason}" if isinstance(reason, str) and reason.isprintable() else ""
    if status >= 500 or status in {408, 429}:
        raise Away(f"CouchDB answered {status}{why}")
    raise Unfit(f"CouchDB refuses with {status}{why}")


def _node_says(status: int, body: bytes) -> DtfcError:
    try:
        said = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        said = None
    why = f": {said}" if isinstance(said, str) and said.isprintable() else ""
    if status in {401, 403, 507}:
        return Stopped(f"the node refuses with {status}{why}")
    if status >= 500 or status in {408, 429}:
        return Away(f"the node answered {status}{why}")
    return Unfit(f"the node answered {status}{why}")


def _revision(path: str, revision: str) -> str:
    return f"{path}?{urlencode({'rev': revision})}"


def _md5_of(attachment: Attachment) -> Callable[[Channel], None]:
    def right(channel: Channel) -> None:
        if attachment.md5 is not None and channel.md5.digest() != attachment.md5:
            raise Unfit("its bytes are not those of its MD5: it is damaged")

    return right
