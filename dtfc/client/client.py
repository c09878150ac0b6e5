"""The client: what can be done with one node, or with several that have the same blobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote, urlencode

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.client.answers import (
    Head,
    Info,
    NodeStatus,
    Page,
    Peers,
    Receipt,
    Row,
    Senseless,
    Stored,
    info_of,
    page_of,
    parsed,
    peers_of,
    receipt_of,
)
from dtfc.client.credentials import Credential
from dtfc.client.failures import ClientError, NotFound, Unreachable, worst
from dtfc.client.fetching import Fetching
from dtfc.client.flow import Got, Saw
from dtfc.client.mirroring import (
    JOBS,
    Blob,
    Mirrored,
    Mirroring,
    Outcome,
    RemoteSource,
    fits,
    fixed_part,
)
from dtfc.client.sources import BytesSource, FileSource, Source, open_source
from dtfc.client.talk import Answer
from dtfc.client.trust import Tls
from dtfc.client.uploading import Uploading
from dtfc.client.uploadstates import UploadStates
from dtfc.client.wire import Wire, limits_of
from dtfc.digest import Digest
from dtfc.disk import DiskThreads
from dtfc.settings.values import origin

PATIENCE = 60.0
"""Seconds for which a node may say nothing, or be away in the middle of something."""

PAGE = 1000
"""Rows that are asked for at once."""

T = TypeVar("T")

_THREADS = 6
_ASK_RECEIPT_EVERY = 1.0


def _unseen(_done: int, _total: int | None) -> None:
    """Nobody wants to see how it goes."""


class Client:
    """Asks nodes for blobs, and gives them some.

    Used as ``async with Client(...) as client``, or closed by :meth:`close`. All methods
    are coroutines on Twisted's reactor and raise
    :class:`~dtfc.client.failures.ClientError`, of which there are kinds.

    Args:
        *nodes: URLs, ``http://host:port``. :meth:`get` and :meth:`stream` use all of
            them; whatever else is asked of the first.
        credential: a :class:`Token`, :class:`Password` or :class:`Cookie`; shown to
            these nodes and nobody else.
        tls: certificates, where the platform's will not do.
        patience: seconds for which a node may say nothing, or be away in the middle.
        states: folder in which uploads are remembered, so that another process can go
            on with them; None to remember nothing.
        reactor: Twisted's; the process's own, if None.

    Raises:
        ValueError: a URL is not one of a node, or there is none.
    """

    def __init__(
        self,
        *nodes: str,
        credential: Credential | None = None,
        tls: Tls | None = None,
        patience: float = PATIENCE,
        states: str | None = None,
        reactor: Any = None,
    ) -> None:
        if not nodes:
            raise ValueError("a client needs the URL of a node")
        if reactor is None:
            from twisted.internet import reactor  # noqa: PLC0415 - installs one
        self.nodes = tuple(dict.fromkeys(origin(node) for node in nodes))
        """Their URLs, without a slash at the end."""
        self._clock: IReactorTime = reactor
        self._disk = DiskThreads(reactor, _THREADS)
        self._started = False
        policy = None if tls is None else tls.policy()
        self._wire = Wire(reactor, credential, self.nodes, policy, limits_of(patience))
        self._fetching = Fetching(self._wire, self._disk, self._clock, self.nodes, patience)
        kept = None if states is None else UploadStates(states)
        self._uploading = Uploading(self._wire, self._disk, self._clock, patience, kept)

    @property
    def node(self) -> str:
        """The URL of the first node."""
        return self.nodes[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give up what is under way, and close every connection; harmless when repeated."""
        await self._wire.close()
        if self._started:
            self._started = False
            self._disk.stop()

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._disk.start()

    # -- blobs that come -------------------------------------------------------------

    async def get(
        self,
        digest: Digest | str,
        path: str,
        *,
        overwrite: bool = False,
        progress: Saw = _unseen,
    ) -> Got:
        """Fetch a blob into a file.

        From all nodes at once, each sending another part. What an earlier call fetched
        (``PATH.dtfc-part``) is not fetched again; the file appears when all of it is
        there and has the digest. A file that is this blob already is left as it is.

        Args:
            digest: of the blob.
            path: of the file.
            overwrite: whether another file of that name is replaced.
            progress: told how many bytes are here, and how many there are.

        Raises:
            NotFound: no node has it.
            NotAllowed: a node wants other credentials.
            Unavailable, Unreachable: it could not be had now; what has come stays.
            WrongBytes: what came is not the blob, whoever was asked.
            LocalTrouble: the file cannot be written.
            BadDigest: this is no digest.
        """
        self._begin()
        return await self._fetching.to_file(_digest(digest), path, progress, overwrite=overwrite)

    async def stream(
        self,
        digest: Digest | str,
        take: Callable[[bytes], Awaitable[None] | None],
        *,
        progress: Saw = _unseen,
    ) -> Got:
        """Fetch a blob in order, and hand each block on as it comes.

        Where a node breaks off, the next one goes on. The digest is known when all has
        been handed on: what was taken counts only if this returns.

        Args:
            digest: of the blob.
            take: gets each block; what it returns is awaited, if that is possible.
            progress: as for :meth:`get`.

        Raises:
            ClientError: as :meth:`get`.
        """
        self._begin()
        return await self._fetching.through(_digest(digest), take, progress)

    async def head(self, digest: Digest | str, *, here: bool = False) -> Head:
        """Ask what a blob is, without its bytes; each node, until one has it.

        Args:
            digest: of the blob.
            here: whether only what a node has itself counts, not its peers.

        Raises:
            ClientError: no node has it, or says so.
        """
        wanted = _digest(digest)
        path = f"/{wanted.hex}/nopeerload" if here else f"/{wanted.hex}"
        errors: list[ClientError] = []
        for node in self.nodes:
            try:
                return await self._fetching.head(node, wanted, path)
            except ClientError as error:
                errors.append(error)
        raise worst(errors)

    async def info(self, digest: Digest | str) -> Info:
        """Ask what the first node knows of a blob that it has.

        Raises:
            ClientError: it does not have it, or does not say.
        """
        return await self._sensible(f"/{_digest(digest).hex}/info", info_of)

    async def ffmetadata(self, digest: Digest | str) -> dict[str, Any]:
        """Ask what ffprobe says of a picture, sound or film.

        Returns:
            ``format``, ``streams`` and ``chapters``, with ffprobe's own names.

        Raises:
            NotFound: there is no such blob, or it is no media file.
            Rejected: the node has no ffprobe (501).
            ClientError: as ever.
        """
        return await self._sensible(f"/{_digest(digest).hex}/ffmetadata", dict)

    async def files(
        self, *, name: str | None = None, prefix: str | None = None
    ) -> AsyncIterator[Row]:
        """Go through the names that the first node knows, in order.

        Args:
            name: only this one.
            prefix: only those that begin so.

        Raises:
            ClientError: it does not say.
        """
        after: str | None = None
        while True:
            page = await self._page(self.node, name=name, prefix=prefix, after=after)
            for row in page.rows:
                yield row
            if page.next is None:
                return
            after = page.next

    async def named(self, name: str) -> list[Row]:
        """Return the blobs that a name stands for, as the first node says that knows it.

        Raises:
            ClientError: no node that answers knows it, and not all answer.
        """
        errors: list[ClientError] = []
        for node in self.nodes:
            try:
                page = await self._page(node, name=name)
            except ClientError as error:
                errors.append(error)
                continue
            if page.rows:
                return list(page.rows)
        if errors:
            raise worst(errors)
        return []

    async def _page(self, node: str, **asked: str | None) -> Page:
        asked["limit"] = str(PAGE)
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        answer = await self._wire.ask("GET", node, f"/files.json?{query}")
        return self._read(answer, page_of)

    # -- blobs that go ---------------------------------------------------------------

    async def put(
        self,
        what: str | bytes | BinaryIO,
        *,
        name: str | None = None,
        progress: Saw = _unseen,
    ) -> Stored:
        """Store a file, bytes, or what an open file has.

        At a node that takes resumable uploads (all but those of 2015) a large file goes
        on where it was cut off: in this call while the node comes back within the client's
        patience, in a later one if the client remembers uploads (``states``). The digest is
        taken here as well, and has to be what the node says.

        Args:
            what: a path, bytes, or an open binary file, which is read to its end.
            name: under which it is stored; of a path its last part, if None.
            progress: told how many bytes the node has, and how many there are.

        Raises:
            NotAllowed: the node takes nothing from this client.
            Rejected: it does not take this (too large, no room, no good name).
            WrongBytes: it stored other bytes.
            LocalTrouble: the file cannot be read, or was changed meanwhile.
            Unavailable, Unreachable: it could not be done now.
        """
        self._begin()
        if isinstance(what, bytes):
            return await self._put(BytesSource(what, name), progress)
        source: FileSource = await self._disk.run(open_source, self._disk, what, name)
        try:
            return await self._put(source, progress)
        finally:
            source.close()

    async def _put(self, source: Source, progress: Saw) -> Stored:
        return await self._uploading.put(self.node, source, progress)

    async def mirror_to(
        self,
        target: Client,
        pattern: str = "*",
        *,
        jobs: int = JOBS,
        saw: Callable[[Blob], object] = lambda _blob: None,
        progress: Callable[[Row, int, int | None], object] = lambda _row, _done, _total: None,
        dry_run: bool = False,
    ) -> Mirrored:
        """Copy to another node what it lacks of the blobs whose names fit a pattern.

        Bytes go from the first node of this client to the first one of the other as they
        come. What was deleted there stays deleted. A large blob that was cut off goes on
        where it was, if the other client remembers uploads.

        Args:
            target: a client of the other node.
            pattern: ``*``, ``?`` and ``[abc]`` as in a shell; a name has no slash.
            jobs: blobs at once.
            saw: told of each blob, when its copy begins and when it has ended.
            progress: told how many bytes of one have left, and how many there are.
            dry_run: whether only to look what would be copied.

        Returns:
            What was copied, and what could not be.

        Raises:
            ClientError: the names cannot be had.
        """
        target._begin()

        async def look(row: Row) -> Outcome | None:
            try:
                await target.head(row.digest, here=True)
            except NotFound as error:
                return "deleted" if error.members.get("deleted") is True else None
            return "there"

        async def copy(row: Row) -> Stored:
            length = row.length
            if length is None:
                length = (await self.head(row.digest)).length
            if dry_run:
                return Stored(row.digest, length, row.name, None, 0)
            source = RemoteSource(self._wire.http, self.node, row, length)
            return await target._put(source, partial(progress, row))

        work = Mirroring(
            lambda row: Deferred.fromCoroutine(look(row)),
            lambda row: Deferred.fromCoroutine(copy(row)),
            jobs,
            saw,
        )
        try:
            async for row in self.files(prefix=fixed_part(pattern) or None):
                if fits(row.name, pattern):
                    await work.take(row)
            await work.finish()
        finally:
            await work.stop()
        return work.so_far

    async def delete(self, digest: Digest | str) -> None:
        """Delete a blob on the first node; its peers keep theirs.

        Raises:
            NotFound: it was not there (and is blocked from now on).
            ClientError: as ever.
        """
        await self._wire.ask("DELETE", self.node, f"/{_digest(digest).hex}")

    async def delete_everywhere(self, digest: Digest | str) -> Receipt:
        """Delete a blob on the first node, and on all of its peers, also those that are away.

        Returns:
            How far it is; :meth:`receipt` tells later, and :meth:`wait_for` waits.

        Raises:
            ClientError: it was not deleted.
        """
        path = f"/{_digest(digest).hex}/allpeers"
        answer = await self._wire.ask("DELETE", self.node, path, good=(200, 202))
        return self._read(answer, receipt_of)

    async def receipt(self, receipt: Receipt | str) -> Receipt:
        """Ask how far a deletion everywhere is.

        Raises:
            ClientError: the node does not say.
        """
        found = receipt if isinstance(receipt, str) else receipt.id
        return await self._sensible(f"/deletions/{quote(found, safe='')}", receipt_of)

    async def wait_for(
        self, receipt: Receipt, saw: Callable[[Receipt], object] = lambda _receipt: None
    ) -> Receipt:
        """Wait until a deletion has reached every peer, however long that takes.

        Args:
            receipt: of the deletion.
            saw: told how far it is, each time that was asked.

        Raises:
            ClientError: the node does not say.
        """
        while not receipt.complete:
            await deferLater(self._clock, _ASK_RECEIPT_EVERY)
            receipt = await self.receipt(receipt)
            saw(receipt)
        return receipt

    # -- nodes -----------------------------------------------------------------------

    async def peers(self) -> Peers:
        """Have the first node read its peer list again, and say who its peers are.

        Raises:
            ClientError: it does not say; it is for those who may PUT.
        """
        answer = await self._wire.ask("PUT", self.node, "/refreshpeers.html", b"")
        return self._read(answer, peers_of)

    async def status(self) -> NodeStatus:
        """Ask the first node how it is.

        Raises:
            Unreachable: it does not answer.
        """
        version = None
        live = await self._wire.http.request("GET", self.node, "/livez")
        if live.status != 200:
            # A node of 2015 knows /health.html alone.
            health = await self._wire.http.request("GET", self.node, "/health.html")
            return NodeStatus(self.node, health.status == 200, None)
        try:
            told = parsed(live.body)
            version = told.get("version") if isinstance(told.get("version"), str) else None
        except Senseless:
            pass
        ready = await self._wire.http.request("GET", self.node, "/readyz?verbose")
        try:
            facts = parsed(ready.body)
        except Senseless:
            facts = {}
        return NodeStatus(self.node, ready.status == 200, version, facts)

    # -- inside ----------------------------------------------------------------------

    async def _sensible(self, path: str, read: Callable[[dict[str, Any]], T]) -> T:
        return self._read(await self._wire.ask("GET", self.node, path), read)

    def _read(self, answer: Answer, read: Callable[[dict[str, Any]], T]) -> T:
        try:
            return read(parsed(answer.body))
        except Senseless as error:
            raise Unreachable(str(error), node=self.node, status=answer.status) from error


def _digest(given: Digest | str) -> Digest:
    return given if isinstance(given, Digest) else Digest.from_hex(given)
