"""What clients ask of a cluster, and what they are told, held against the truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from simulate.clients import Answer, Asker, Asking, request_head
from simulate.cluster import address_of
from simulate.machine import Machine
from simulate.network import Network
from simulate.truth import Truth, Write
from simulate.wire import PORT
from simulate.world import World

#: The address that all clients come from.
CLIENTS = "127.0.9.1"


class Errands:
    """Clients.

    Args:
        world: the clock.
        network: on which they are.
        truth: told of what they ask for, and what they are told.
        ghost: a digest that no blob has, asked for as blob -1.
        honest: whether nobody in the cluster lies.
    """

    def __init__(
        self, world: World, network: Network, truth: Truth, ghost: str, *, honest: bool
    ) -> None:
        self.counts: dict[str, int] = {}
        """Answers by kind."""
        self.open: dict[int, str] = {}
        """What has not been answered yet, in words."""
        self.receipts: list[tuple[str, Write, str]] = []
        """Of deletions everywhere: which blob, what was asked, where to ask how far it is."""
        self._world = world
        self._truth = truth
        self._digests = list(truth.blobs)
        self._ghost = ghost
        self._honest = honest
        self._machine = Machine(world, network, CLIENTS)
        self._asked = 0

    def put(self, *, node: int, blob: int, by: str, wrong: bool) -> Answer:
        """Store a blob.

        Args:
            node: where.
            blob: which.
            by: what the URL names: ``name``, ``digest`` or ``both``.
            wrong: whether the body is another than the URL says.
        """
        digest = self._digests[blob]
        content = self._truth.blobs[digest]
        body = content + b"!" if wrong else content
        path = {"name": "", "digest": digest, "both": f"{digest}/"}[by]
        if by != "digest":
            path += f"blob{blob}.bin"
        # What is refused must leave no trace, and is nothing the truth need know.
        write = None if wrong else self._truth.begins(node, digest, "put", self._world.now)
        what = f"PUT of blob {blob}{' (wrong bytes)' if wrong else ''} to node {node}"

        def over(answer: Answer) -> None:
            stored = self._truth.check_put(what, digest, answer, right=not wrong)
            self._written(digest, write, answer, acknowledged=stored)

        head = request_head("PUT", f"/{path}", address_of(node), {"Content-Length": str(len(body))})
        return self._ask(what, node, head, over, body=body)

    def delete(self, *, node: int, blob: int) -> Answer:
        """Delete a blob on one node."""
        digest = self._digests[blob]
        write = self._truth.begins(node, digest, "delete", self._world.now)

        def over(answer: Answer) -> None:
            # 404 is an acknowledgement, too: it was not here, and is blocked.
            done = answer.complete and answer.status in (200, 404)
            self._written(digest, write, answer, acknowledged=done)

        head = request_head("DELETE", f"/{digest}", address_of(node), {})
        return self._ask(f"DELETE of blob {blob} on node {node}", node, head, over)

    def everywhere(self, *, node: int, blob: int) -> Answer:
        """Delete a blob on all nodes."""
        digest = self._digests[blob]
        write = self._truth.begins(node, digest, "everywhere", self._world.now)

        def over(answer: Answer) -> None:
            if answer.complete and answer.status == 202:
                self.receipts.append((digest, write, answer.fields.get("location", "")))
                self._truth.acknowledged(digest, write, self._world.now)

        head = request_head("DELETE", f"/{digest}/allpeers", address_of(node), {})
        return self._ask(f"DELETE-ALL of blob {blob} on node {node}", node, head, over)

    def receipt(self, node: int, path: str) -> Answer:
        """Ask how far a deletion everywhere is."""
        head = request_head("GET", path, address_of(node), {})
        return self._ask(f"RECEIPT {path} from node {node}", node, head, lambda _answer: None)

    def _written(
        self, digest: str, write: Write | None, answer: Answer, *, acknowledged: bool
    ) -> None:
        if write is None:
            return
        if acknowledged:
            self._truth.acknowledged(digest, write, self._world.now)
        elif answer.complete and answer.status != 503:
            # 503 may mean that it is stored, and has too few copies.
            write.ended = self._world.now

    def get(
        self,
        *,
        node: int,
        blob: int,
        first: int = 0,
        last: int = -1,
        peerload: bool = True,
        **manners: Any,
    ) -> Answer:
        """Fetch a blob, or a part of it.

        Args:
            node: where.
            blob: which.
            first: first byte wanted; negative for a suffix.
            last: last byte wanted; -1 for all that follow.
            peerload: whether the node may ask its peers.
            manners: of the client, as of :class:`simulate.clients.Asking`.
        """
        digest = self._ghost if blob < 0 else self._digests[blob]
        fields = {}
        if (first, last) != (0, -1):
            asked = str(first) if first < 0 else f"{first}-{'' if last < 0 else last}"
            fields["Range"] = f"bytes={asked}"
        path = f"/{digest}" if peerload else f"/{digest}/nopeerload"
        what = f"GET of blob {blob} {fields.get('Range', '')} from node {node}"

        def over(answer: Answer) -> None:
            self._truth.check_get(what, digest, answer, first, last)

        head = request_head("GET", path, address_of(node), fields)
        return self._ask(what, node, head, over, **manners)

    def crowd(self, *, node: int, blob: int, nodes: int) -> None:
        """Store a blob, and a little later fetch it from each of so many nodes at once."""
        self.put(node=node, blob=blob, by="digest", wrong=False)
        for each in range(nodes):
            self._world.after(1.0, partial(self.get, node=each, blob=blob))

    def head(self, *, node: int, blob: int) -> Answer:
        """Ask for the head of a blob."""
        digest = self._digests[blob]
        what = f"HEAD of blob {blob} from node {node}"

        def over(answer: Answer) -> None:
            # What a liar says of a blob that no honest peer holds nobody can check.
            if self._honest:
                self._truth.check_head(what, digest, answer)

        head = request_head("HEAD", f"/{digest}", address_of(node), {})
        return self._ask(what, node, head, over)

    def _ask(
        self, what: str, node: int, head: bytes, over: Callable[[Answer], None], **manners: Any
    ) -> Answer:
        self._asked += 1
        number = self._asked

        def done() -> None:
            self.open.pop(number, None)
            answer = asking.answer
            self._world.note(f"{what}: {answer.status} {len(answer.body)} {answer.complete}")
            kind = f"{what.partition(' ')[0]} {answer.status if answer.complete else 'cut'}"
            self.counts[kind] = self.counts.get(kind, 0) + 1
            over(answer)

        asking = Asking(head, manners.pop("body", b""), done, **manners)
        asking.machine = self._machine
        self.open[number] = f"{what}, asked at {self._world.now:.3f}"
        self._machine.connectTCP(address_of(node), PORT, Asker(asking), timeout=60)
        return asking.answer
