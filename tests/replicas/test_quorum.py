"""Who waits for copies is woken by each, whenever it comes."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.replicas.quorum import Quorum

BLOB = Digest.of(b"blob")


class Waiting:
    """A client that waits, and counts that are answered by hand."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.quorum = Quorum(self.clock)
        self.counts: list[Deferred[int]] = []
        self.outcome: list[object] = []
        waiting = Deferred.fromCoroutine(self.quorum.wait(BLOB, 1, 10.0, self._count, own=True))
        waiting.addBoth(self.outcome.append)

    async def _count(self) -> int:
        asked: Deferred[int] = Deferred()
        self.counts.append(asked)
        return await asked


def test_a_copy_ends_the_wait() -> None:
    waiting = Waiting()
    waiting.counts[0].callback(0)
    waiting.quorum.tell(BLOB)
    waiting.counts[1].callback(1)
    assert waiting.outcome == [1]


def test_so_does_one_that_comes_while_they_are_counted() -> None:
    waiting = Waiting()
    waiting.quorum.tell(BLOB)
    waiting.counts[0].callback(0)
    waiting.counts[1].callback(1)
    assert waiting.outcome == [1]
    assert waiting.clock.getDelayedCalls() == []


def test_when_the_time_is_up_there_are_as_many_as_there_are() -> None:
    waiting = Waiting()
    waiting.counts[0].callback(0)
    waiting.clock.advance(10.0)
    waiting.counts[1].callback(0)
    assert waiting.outcome == [0]


def test_a_deletion_ends_it_too() -> None:
    waiting = Waiting()
    waiting.counts[0].callback(0)
    waiting.quorum.tell(BLOB, deleted=True)
    (failure,) = waiting.outcome
    with pytest.raises(Absent):
        failure.raiseException()  # type: ignore[attr-defined]  # a Failure
    assert not waiting.quorum.waits(BLOB)
