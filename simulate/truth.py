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
from collections.abc import Iterator
from dataclasses import dataclass

from simulate.clients import Answer

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")


@dataclass(eq=False, slots=True)
class Write:
    """One PUT or DELETE of one blob on one node.

    Args:
        kind: ``put`` or ``delete``.
        begun: when it was asked for.
        ended: when nothing more could come of it; None while that is not known.
        acknowledged: whether the client was told that it is done.
    """

    kind: str
    begun: float
    ended: float | None = None
    acknowledged: bool = False

    def over_before(self, when: float) -> bool:
        """Whether it can have had no effect after a moment."""
        return self.ended is not None and self.ended < when


class Truth:
    """What was asked for, and what follows from it.

    Args:
        blobs: by digest, every blob that anybody may ask for.
    """

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs
        self.violations: list[str] = []
        self._writes: dict[tuple[int, str], list[Write]] = {}
        self._has: dict[tuple[int, str], None] = {}
        self._lacks: dict[tuple[int, str], None] = {}
        self._hurt: set[tuple[int, str]] = set()

    def broken(self, what: str) -> None:
        """Note that something is not as it must be."""
        self.violations.append(what)

    # -- writes -----------------------------------------------------------------

    def begins(self, node: int, digest: str, kind: str, now: float) -> Write:
        """A client asks for a PUT or DELETE."""
        write = Write(kind, now)
        self._writes.setdefault((node, digest), []).append(write)
        (self._lacks if kind == "put" else self._has).pop((node, digest), None)
        return write

    def acknowledged(self, node: int, digest: str, write: Write, now: float) -> None:
        """The client was told that it is done."""
        write.ended = now
        write.acknowledged = True
        key = (node, digest)
        others = [each for each in self._writes[key] if each.kind != write.kind]
        if all(each.over_before(write.begun) for each in others):
            (self._has if write.kind == "put" else self._lacks)[key] = None
            if write.kind == "put":
                # A PUT of what is here compares, and mends.
                self._hurt.discard(key)

    def settled(self, now: float) -> None:
        """Nothing that was asked for so far can have an effect any more."""
        for writes in self._writes.values():
            for write in writes:
                if write.ended is None:
                    write.ended = now

    def rotted(self, node: int, digest: str) -> None:
        """A stored copy was damaged."""
        self._has.pop((node, digest), None)
        self._hurt.add((node, digest))

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
        """Whether anybody has ever asked a node to delete a blob."""
        return any(each.kind == "delete" for each in self._writes.get((node, digest), ()))

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
