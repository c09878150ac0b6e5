"""Blobs that come: from one node or several at once, into a file or through a function.

Which node is asked for what is for ``dtfc.peers.pull`` to decide, as in a node that loads
from its peers; here is what becomes of it when nothing can be had for the moment, and what
the user is told in the end.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.client.answers import Head
from dtfc.client.failures import (
    ClientError,
    LocalTrouble,
    Unavailable,
    Unreachable,
    failure_of,
    worst,
)
from dtfc.client.flow import Flow, Got, Saw, wrong
from dtfc.client.partfile import PartFile, digest_of_file, exists, in_words, open_part
from dtfc.client.talk import Answer
from dtfc.client.wire import NodeHTTP, Wire
from dtfc.digest import Digest
from dtfc.disk import Disk, Lane
from dtfc.errors import Absent, PeersUnreached
from dtfc.http.ranges import range_field
from dtfc.http.replies import Refusal, judge_reply
from dtfc.peers.client import Reply
from dtfc.peers.disposition import file_name
from dtfc.peers.failure import PeerFailure
from dtfc.peers.pull import PullLimits
from dtfc.peers.slots import SlotsByName
from dtfc.peers.surroundings import Counters, LoadLimits
from dtfc.peers.transfer import Transfer
from dtfc.store.partials import Partial

PAUSE = 1.0
"""Seconds between two attempts, where the node names none."""

LONGEST_PAUSE = 10.0
"""No node makes a client wait longer than so many seconds before it tries again."""

_ERROR_BYTES = 64 * 1024
_CONNECTIONS = 8
_NO_HEAD = (405, 501)


class _Nobody:
    """A client is no node: no peer waits for it."""

    one_of_many: str | None = None


@dataclass(slots=True)
class _Means:
    """What a transfer works with (``dtfc.peers.transfer.Means``)."""

    disk: Disk
    http: NodeHTTP
    clock: IReactorTime
    limits: LoadLimits
    counters: Counters = field(default_factory=Counters)
    at_peers: SlotsByName = field(default_factory=lambda: SlotsByName(_CONNECTIONS))
    picker: _Nobody = field(default_factory=_Nobody)
    shared: bool = False


class _Watcher:
    """Hears how a transfer goes."""

    def __init__(self, saw: Saw) -> None:
        self.liars: set[str] = set()
        self._saw = saw

    def saw(self, transfer: Transfer) -> None:
        self._saw(transfer.held.total, transfer.length)

    def lied(self, peer: str) -> None:
        self.liars.add(peer)

    def took_back(self, chunks: frozenset[int] | None) -> None:
        """Nobody has been shown them."""

    def answered(self, peer: str, seconds: float) -> None:
        """It is asked anyway."""

    def delivered(self, peer: str, count: int, seconds: float) -> None:
        """The transfer counts."""

    def failed(self, peer: str) -> None:
        """The transfer asks another one."""

    def has(self, peer: str) -> None:
        """It is asked anyway."""

    def lacks(self, peer: str) -> None:
        """The transfer knows."""

    def fetched(self, peer: str, result: str) -> None:
        """A program counts nothing."""


class Fetching:
    """Fetches blobs.

    Args:
        wire: asks nodes.
        disk: where blocking work is done.
        clock: measures time.
        nodes: their URLs, in the order in which to ask.
        patience: seconds for which nothing may come, once something has come or a node
            has asked to wait.
    """

    def __init__(
        self,
        wire: Wire,
        disk: Disk,
        clock: IReactorTime,
        nodes: Sequence[str],
        patience: float,
    ) -> None:
        self._wire = wire
        self._disk = disk
        self._clock = clock
        self._nodes = tuple(nodes)
        self._patience = patience

    async def to_file(self, digest: Digest, path: str, saw: Saw, *, overwrite: bool) -> Got:
        """Fetch a blob into a file, going on with what an earlier process fetched.

        Raises:
            ClientError: as :meth:`dtfc.client.Client.get`.
        """
        target, length = await self._disk.run(_is_here, path, digest, overwrite=overwrite)
        if length is not None:
            saw(length, length)
            return Got(digest, length, None, path, resumed=length)
        lane = Lane(self._disk)
        opened: list[PartFile] = []
        try:
            # Kept there and not returned: whoever is cancelled meanwhile still lets go of it.
            await lane.run(lambda: opened.append(open_part(target, digest, overwrite=overwrite)))
            with in_words(target):
                return await self._complete(digest, path, opened[0], lane, saw)
        finally:
            # Behind whatever step is still running, which must not lose its file.
            await lane.run(_let_go, opened)

    async def _complete(
        self, digest: Digest, path: str, part: PartFile, lane: Lane, saw: Saw
    ) -> Got:
        resumed = part.held.total
        from_nodes: dict[str, int] = {}
        near = len(self._nodes) > 1
        waiting = _Waiting(self._clock, self._patience)
        while True:
            before = part.held.total
            transfer, watcher = self._transfer(digest, part, lane, saw, near=near)
            try:
                info = await transfer.run()
            except Absent:
                if near:
                    # None of them has it itself: one may load it from its peers.
                    near = False
                    continue
                error = await self._explain(digest, {})
            except PeersUnreached as unreached:
                if watcher.liars:
                    raise wrong(digest, watcher.liars) from None
                error = await self._explain(digest, unreached.unreached)
            else:
                _add(from_nodes, transfer.from_peers)
                return Got(digest, info.length, transfer.name, path, resumed, from_nodes)
            finally:
                await lane.run(lambda: None)
            _add(from_nodes, transfer.from_peers)
            await waiting.before_next(error, progress=part.held.total > before)

    def _transfer(
        self, digest: Digest, part: Partial, lane: Lane, saw: Saw, *, near: bool
    ) -> tuple[Transfer, _Watcher]:
        most = max(1, min(_CONNECTIONS, len(self._nodes)))
        # With a single node one long request is the fastest.
        limits = LoadLimits(spread=PullLimits(peers=max(2, most), per_peer=2))
        http = self._wire.near if near else self._wire.http
        watcher = _Watcher(saw)
        transfer = Transfer(
            digest,
            _Means(self._disk, http, self._clock, limits),
            lane,
            part,
            held=part.held,
            length=part.total if part.held.total else None,
            peers=self._nodes,
            watcher=watcher,
        )
        return transfer, watcher

    async def through(
        self, digest: Digest, take: Callable[[bytes], Awaitable[None] | None], saw: Saw
    ) -> Got:
        """Fetch a blob in order, handing each block on; as :meth:`dtfc.client.Client.stream`."""
        flow = Flow(digest, self._disk, take, saw)
        waiting = _Waiting(self._clock, self._patience)
        while True:
            before = flow.at
            errors: list[ClientError] = []
            for node in self._nodes:
                try:
                    await self._some(node, digest, flow)
                except ClientError as error:
                    errors.append(error)
                if flow.over:
                    return flow.end(self._nodes)
            await waiting.before_next(worst(errors), progress=flow.at > before)

    async def _some(self, node: str, digest: Digest, flow: Flow) -> None:
        """Take what comes from one node.

        Raises:
            ClientError: it did not send all of the rest.
        """
        try:
            reply = await self._wire.http.ask("GET", node, digest.hex, flow.at)
        except PeerFailure as failure:
            raise Unreachable(failure.reason, node=node) from failure
        judged = judge_reply(reply.status, reply.fields, flow.at, flow.total, digest.hex)
        if isinstance(judged, Refusal):
            raise await _refusal(node, reply, judged.reason)
        flow.name = flow.name or file_name(reply.fields("content-disposition"))
        cut = await flow.take(node, reply, judged.start, judged.total)
        if cut is not None:
            raise Unreachable(cut, node=node)

    async def _explain(self, digest: Digest, reasons: dict[str, str]) -> ClientError:
        """Ask each node once more, for its own words of why there is nothing to be had."""
        errors: list[ClientError] = []
        for node in self._nodes:
            try:
                reason = reasons.get(node, "it has it now")
                errors.append(await self.why(node, f"/{digest.hex}", reason))
            except ClientError as error:
                errors.append(error)
        return worst(errors)

    async def head(self, node: str, digest: Digest, path: str) -> Head:
        """Learn length and name of a blob from a node.

        Raises:
            ClientError: it does not have it, or does not answer.
        """
        answer = await self._wire.http.request("HEAD", node, path)
        if answer.status == 200:
            return _head(node, digest, answer)
        if answer.status not in _NO_HEAD:
            # A HEAD has no words for it.
            raise await self.why(node, path, f"answers {answer.status}")
        reply = await self._wire.http.open(node, path, [("Range", range_field(0, 1))])
        judged = judge_reply(reply.status, reply.fields, 0, None, digest.hex, end=1)
        if isinstance(judged, Refusal):
            raise await _refusal(node, reply, judged.reason)
        reply.drop()
        kind = reply.fields("content-type")
        name = file_name(reply.fields("content-disposition"))
        return Head(digest, judged.total, name, kind[0] if kind else None)

    async def why(self, node: str, path: str, reason: str) -> ClientError:
        """Ask a node why it does not give a blob.

        Args:
            node: its URL.
            path: of the blob.
            reason: what is said if it gives it by now.

        Raises:
            ClientError: it does not answer.
        """
        reply = await self._wire.http.open(node, path, [("Range", range_field(0, 1))])
        if reply.status in (200, 206):
            reply.drop()
            return Unreachable(reason, node=node, retry_after=1)
        return await _refusal(node, reply, f"it answered {reply.status}")


class _Waiting:
    """When to try again, and when to give up."""

    def __init__(self, clock: IReactorTime, patience: float) -> None:
        self._clock = clock
        self._patience = patience
        self._began = False
        self._since = clock.seconds()
        self._last = self._since

    async def before_next(self, error: ClientError, *, progress: bool) -> None:
        """Wait a little; raises the error if there is no sense in going on.

        Args:
            error: why the last attempt ended.
            progress: whether it brought anything.
        """
        now = self._clock.seconds()
        if progress:
            self._began = True
            self._last = now
        asked_to_wait = isinstance(error, Unavailable) or error.retry_after is not None
        may_come = isinstance(error, (Unavailable, Unreachable))
        if not may_come or not (self._began or asked_to_wait):
            raise error
        if now - self._last >= self._patience:
            raise error
        pause = min(float(error.retry_after or PAUSE), LONGEST_PAUSE)
        await deferLater(self._clock, max(PAUSE / 4, pause))


async def _refusal(node: str, reply: Reply, reason: str) -> ClientError:
    """Read the problem in an answer whose body is of no other use."""
    length = reply.fields("content-length")
    fields = {name: value for name in ("retry-after",) for value in reply.fields(name)}
    content = b""
    if reply.status < 400:
        reply.drop()
        return Unreachable(reason, node=node, status=reply.status)
    if length and length[0].isdigit() and 0 < int(length[0]) <= _ERROR_BYTES:
        body = reply.take(0, int(length[0]))
        while blocks := await body.read():
            content += b"".join(blocks)
    else:
        reply.drop()
    return failure_of(node, reply.status, fields, content)


def _is_here(path: str, digest: Digest, *, overwrite: bool) -> tuple[str, int | None]:
    """Return the absolute path, and the length of the file if it is this blob already.

    Raises:
        LocalTrouble: it is something else, which is not to be replaced.
    """
    target = os.path.abspath(path)
    with in_words(target):
        if not os.path.lexists(target):
            if not os.path.isdir(os.path.dirname(target)):
                raise LocalTrouble(f"{os.path.dirname(target)} is no folder")
            return target, None
        if os.path.isfile(target) and digest_of_file(target) == digest:
            return target, os.path.getsize(target)
        if os.path.isdir(target) or not overwrite:
            raise exists(target)
    return target, None


def _let_go(opened: list[PartFile]) -> None:
    for part in opened:
        # What has nothing in it is of no use to anybody.
        (part.close if part.held.total else part.discard)()


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for node, count in more.items():
        sums[node] = sums.get(node, 0) + count


def _head(node: str, digest: Digest, answer: Answer) -> Head:
    length = answer.fields.get("content-length", "")
    if not length.isdigit():
        raise Unreachable("does not say how long it is", node=node)
    disposition = answer.fields.get("content-disposition")
    name = file_name([disposition]) if disposition is not None else None
    return Head(digest, int(length), name, answer.fields.get("content-type"))
