"""What must be true of a cluster, whatever befell it.

Rules of this file: it knows what clients asked for and what they were told, and
nothing of how nodes work. What it claims is what the contract says
(``docs/protocol.md``), and only where no other order of the same requests could
have led elsewhere: a request that was cut off may have been carried out at any
time until the cluster has settled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from simulate.clients import Answer

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")


#: Stands for every node of the cluster.
ALL = -1


@dataclass(eq=False, slots=True)
class Write:
    """One PUT or deletion of one blob.

    Args:
        kind: ``put``, ``delete`` or ``everywhere``.
        node: who was asked.
        begun: when it was asked for.
        ended: when nothing more could come of it; None while that is not known.
        acknowledged: whether the client was told that it is done.
    """

    kind: str
    node: int
    begun: float
    ended: float | None = None
    acknowledged: bool = False

    def over_before(self, when: float) -> bool:
        """Whether it can have had no effect after a moment."""
        return self.ended is not None and self.ended < when

    def deletes(self, node: int) -> bool:
        """Whether it deletes on a node."""
        return self.kind == "everywhere" or (self.kind == "delete" and self.node == node)


class Truth:
    """What was asked for, and what follows from it.

    Args:
        blobs: by digest, every blob that anybody may ask for.
        nodes: how many there are.
    """

    def __init__(self, blobs: dict[str, bytes], nodes: int) -> None:
        self.blobs = blobs
        self.violations: list[str] = []
        self._nodes = nodes
        self._writes: dict[str, list[Write]] = {digest: [] for digest in blobs}
        self._has: dict[tuple[int, str], None] = {}
        self._lacks: dict[tuple[int, str], None] = {}
        self._hurt: dict[tuple[int, str], float] = {}
        """Copies that were damaged, and when."""

    def broken(self, what: str) -> None:
        """Note that something is not as it must be."""
        self.violations.append(what)

    # -- writes -----------------------------------------------------------------

    def begins(self, node: int, digest: str, kind: str, now: float) -> Write:
        """A client asks for a PUT or a deletion."""
        write = Write(kind, node, now)
        everywhere = self._was_deleted_everywhere(digest)
        self._writes[digest].append(write)
        if kind == "put":
            # Of what was deleted everywhere it is taken back everywhere.
            self._forget(self._lacks, digest, ALL if everywhere else node)
        else:
            self._forget(self._has, digest, ALL if kind == "everywhere" else node)
        return write

    def _forget(self, claims: dict[tuple[int, str], None], digest: str, node: int) -> None:
        for each in range(self._nodes) if node == ALL else (node,):
            claims.pop((each, digest), None)

    def _was_deleted_everywhere(self, digest: str) -> bool:
        return any(write.kind == "everywhere" for write in self._writes[digest])

    def acknowledged(self, digest: str, write: Write, now: float) -> None:
        """The client was told that it is done, or for a deletion everywhere: that it will be."""
        write.acknowledged = True
        if write.kind == "everywhere":
            if self._is_first_everywhere(digest, write) and self._no_put_since(digest, write, ALL):
                self._lacks[write.node, digest] = None
            return
        write.ended = now
        if write.kind == "delete":
            if self._no_put_since(digest, write, write.node) and self._not_revived(digest):
                self._lacks[write.node, digest] = None
        elif all(
            other.over_before(write.begun)
            for other in self._writes[digest]
            if other.deletes(write.node)
        ):
            if self._hurt.get((write.node, digest), -1.0) >= write.begun:
                return  # perhaps when it was stored, and the client had not heard of it
            self._has[write.node, digest] = None
            # A PUT of what is here compares, and mends.
            self._hurt.pop((write.node, digest), None)

    def _not_revived(self, digest: str) -> bool:
        """Whether nobody stored it again that may have known that it was deleted everywhere.

        Who does that brings it back everywhere, whatever others delete that have not
        heard of it yet.
        """
        for first in self._writes[digest]:
            if first.kind == "everywhere":
                return self._no_put_since(digest, first, ALL)
        return True

    def _is_first_everywhere(self, digest: str, write: Write) -> bool:
        return write is next(each for each in self._writes[digest] if each.kind == "everywhere")

    def _no_put_since(self, digest: str, write: Write, node: int) -> bool:
        return all(
            other.over_before(write.begun)
            for other in self._writes[digest]
            if other.kind == "put" and node in (ALL, other.node)
        )

    def settled(self, now: float) -> None:
        """Nothing that was asked for so far can have an effect any more."""
        for writes in self._writes.values():
            for write in writes:
                if write.ended is None:
                    write.ended = now

    def complete(self, digest: str, write: Write, reached: Iterable[int]) -> None:
        """A deletion everywhere has reached these nodes, none of which knew of a later PUT."""
        nodes = list(reached)
        told_all = len(nodes) == self._nodes
        if self._no_put_since(digest, write, ALL) and (told_all or self._not_revived(digest)):
            for node in nodes:
                self._lacks[node, digest] = None

    def rotted(self, node: int, digest: str, now: float) -> None:
        """A stored copy was damaged."""
        self._has.pop((node, digest), None)
        self._hurt[node, digest] = now

    # -- claims -----------------------------------------------------------------

    def must_have(self) -> Iterator[tuple[int, str]]:
        """Every node and blob that must lie there."""
        return iter(list(self._has))

    def must_lack(self) -> Iterator[tuple[int, str]]:
        """Every node and blob that must not lie there, and must not come back."""
        return iter(list(self._lacks))

    def has(self, node: int, digest: str) -> bool:
        """Whether a blob must lie on a node."""
        return (node, digest) in self._has

    def lacks(self, node: int, digest: str) -> bool:
        """Whether a blob must not lie on a node."""
        return (node, digest) in self._lacks

    def deleted_at_some_time(self, node: int, digest: str) -> bool:
        """Whether anybody has ever asked that a node deletes a blob."""
        return any(write.deletes(node) for write in self._writes[digest])

    def was_hurt(self, digest: str) -> bool:
        """Whether a copy of a blob was damaged, and not stored again since."""
        return any(each == digest for _, each in self._hurt)

    # -- answers ----------------------------------------------------------------

    def check_get(self, what: str, digest: str, answer: Answer, first: int, last: int) -> None:
        """Hold the answer to a GET against the blob.

        Args:
            what: the request, in words.
            digest: of the blob.
            answer: what came.
            first: first byte asked for; negative for a suffix.
            last: last byte asked for; -1 for all that follow.
        """
        if not answer.complete or answer.status not in (200, 206, 416):
            return
        content = self.blobs.get(digest)
        if content is None:
            self.broken(f"{what}: answered {answer.status} for a blob that never was")
        elif answer.status == 200:
            if bytes(answer.body) != content:
                self.broken(f"{what}: {_difference(bytes(answer.body), content)}")
        elif answer.status == 416:
            if first < len(content) and content:
                self.broken(f"{what}: 416, but the blob has {len(content)} bytes")
        else:
            self._check_part(what, content, answer, first, last)

    def _check_part(self, what: str, content: bytes, answer: Answer, first: int, last: int) -> None:
        match = _RANGE.match(answer.fields.get("content-range", ""))
        size = len(content)
        start = max(0, size + first) if first < 0 else first
        stop = size if last < 0 or first < 0 else min(size, last + 1)
        if match is None or tuple(map(int, match.groups())) != (start, stop - 1, size):
            told = answer.fields.get("content-range")
            self.broken(f"{what}: Content-Range {told}, and not {start}-{stop - 1}/{size}")
        elif bytes(answer.body) != content[start:stop]:
            self.broken(f"{what}: {_difference(bytes(answer.body), content[start:stop])}")

    def check_head(self, what: str, digest: str, answer: Answer) -> None:
        """Hold the answer to a HEAD against the blob."""
        if not answer.complete or answer.status != 200:
            return
        content = self.blobs.get(digest)
        told = answer.fields.get("content-length")
        if content is None or told != str(len(content)):
            self.broken(f"{what}: says {told} bytes of a blob that has {content and len(content)}")

    def check_put(self, what: str, digest: str, answer: Answer, *, right: bool) -> bool:
        """Hold the answer to a PUT against its body; return whether it is acknowledged."""
        if not answer.complete or answer.status not in (200, 201):
            return False
        if not right:
            self.broken(f"{what}: {answer.status} for a body that has not this digest")
            return False
        told = json.loads(bytes(answer.body))
        if told.get("sha512") != digest or told.get("length") != len(self.blobs[digest]):
            self.broken(f"{what}: answered {told}")
        return True


def _difference(got: bytes, wanted: bytes) -> str:
    if len(got) != len(wanted):
        return f"a complete answer of {len(got)} bytes, and not {len(wanted)}"
    at = next(
        index for index, pair in enumerate(zip(got, wanted, strict=True)) if pair[0] != pair[1]
    )
    return f"a complete answer with a wrong byte at {at} of {len(wanted)}"
