"""What arrived of an upload is written in order, whatever ends the request that brought it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock

from dtfc.disk import InlineDisk
from dtfc.errors import Busy, ConnectionGone, NoSpace, Superseded, TooLarge
from dtfc.web.body import RequestBody
from dtfc.web.ingest import BLOCK
from dtfc.web.uploading import Held, Uploading

P = ParamSpec("P")
R = TypeVar("R")

A, B, C = (letter * BLOCK for letter in (b"a", b"b", b"c"))


class Slow:
    """A disk that does nothing before it is told to."""

    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        done: Deferred[R] = Deferred()

        def step() -> None:
            maybeDeferred(work, *args, **kwargs).chainDeferred(done)

        self._steps.append(step)
        return done

    def go_on(self) -> None:
        """Do all that is to be done."""
        while self._steps:
            self._steps.popleft()()


class Paper:
    """An upload that notes what it is given."""

    behind = False

    def __init__(self, fails: int = 0) -> None:
        self.written = b""
        self._fails = fails

    @property
    def offset(self) -> int:
        return len(self.written)

    def write(self, blocks: Sequence[bytes]) -> None:
        if self._fails:
            self._fails -= 1
            raise NoSpace(1, 0, 0)
        self.written += b"".join(blocks)

    def close(self) -> None:
        pass

    def discard(self) -> None:
        self.written = b"gone"


def receiving(paper: Paper, *, most: int | None = None) -> tuple[Slow, RequestBody, Any]:
    """A request in the middle: A is on its way to the disk, B was read, C has come."""
    disk = Slow()
    held = Held("x", disk)
    held._upload = paper  # type: ignore[assignment] # all that is asked of it
    body = RequestBody(4 * BLOCK, lambda: None)
    receive: Deferred[None] = Deferred.fromCoroutine(held.receive(body, most=most))
    for block in (A, B, C):
        body.feed(block)
    return disk, body, receive


def test_what_was_read_when_the_client_left_is_written_before_what_came_after_it() -> None:
    paper = Paper()
    disk, _body, receive = receiving(paper)

    receive.cancel()
    receive.addErrback(lambda failure: failure.trap(CancelledError))
    disk.go_on()

    assert [paper.written[at : at + 1] for at in range(0, paper.offset, BLOCK)] == [
        b"a",
        b"b",
        b"c",
    ]


def test_so_it_is_when_the_connection_breaks() -> None:
    paper = Paper()
    disk, body, receive = receiving(paper)

    body.fail_with(ConnectionGone())
    receive.addErrback(lambda failure: failure.trap(ConnectionGone))
    disk.go_on()
    disk.go_on()

    assert paper.written == A + B + C


def test_behind_bytes_that_could_not_be_written_nothing_is() -> None:
    paper = Paper(fails=1)
    disk, _body, receive = receiving(paper)
    receive.addErrback(lambda failure: failure.trap(NoSpace))

    disk.go_on()
    disk.go_on()

    assert paper.written == b""


def test_behind_bytes_that_were_too_many_nothing_is_written() -> None:
    paper = Paper()
    disk, _body, receive = receiving(paper, most=BLOCK + 5)
    disk.go_on()

    with pytest.raises(TooLarge):
        _result_of(receive)
    assert paper.written == A


class Papers:
    """The uploads of a store; another process has the one that is wanted, ``busy`` times."""

    def __init__(self, busy: int = 0) -> None:
        self._busy = busy

    def take(self, _name: str) -> Paper:
        if self._busy:
            self._busy -= 1
            raise Busy("this upload")
        return Paper()

    def wish(self, _name: str) -> None:
        pass

    def is_wanted(self, _name: str) -> bool:
        return False


def taking(uploading: Uploading) -> list[Any]:
    """Ask for an upload; return where it will be, or what went wrong."""
    got: list[Any] = []
    Deferred.fromCoroutine(uploading.take("x")).addBoth(got.append)
    return got


def test_who_comes_while_it_is_being_taken_is_the_newer_one() -> None:
    disk = Slow()
    uploading = Uploading(Papers(), disk, Clock())  # type: ignore[arg-type]
    older = taking(uploading)
    newer = taking(uploading)
    disk.go_on()
    receive = Deferred.fromCoroutine(older[0].receive(RequestBody(9, lambda: None), most=None))
    receive.addErrback(lambda failure: failure.trap(Superseded))
    receive.addCallback(lambda _: uploading.release(older[0]))

    disk.go_on()

    assert [held.name for held in newer] == ["x"]
    uploading.release(newer[0])
    disk.go_on()


def test_who_waits_for_another_process_gives_way_to_who_comes_later() -> None:
    disk, clock = InlineDisk(), Clock()
    uploading = Uploading(Papers(busy=2), disk, clock)  # type: ignore[arg-type]
    older = taking(uploading)
    newer = taking(uploading)

    clock.pump([0.05, 0.05])

    assert older[0].check(Superseded)
    assert newer[0].name == "x"
    uploading.release(newer[0])


def test_what_is_made_for_somebody_who_left_is_taken_away() -> None:
    disk, paper = Slow(), Paper()
    uploading = Uploading(Papers(), disk, Clock())  # type: ignore[arg-type]
    making = Deferred.fromCoroutine(uploading.create(lambda: paper))  # type: ignore[arg-type, return-value]

    making.cancel()
    making.addErrback(lambda failure: failure.trap(CancelledError))
    disk.go_on()

    assert paper.written == b"gone"


def test_what_is_given_up_is_finished_first() -> None:
    disk, paper = Slow(), Paper()
    held = Held("x", disk)
    held._upload = paper  # type: ignore[assignment] # all that is asked of it
    seen: list[bytes] = []

    async def work() -> None:
        await held.lane.run(lambda: seen.append(paper.written))
        await held.lane.run(lambda: seen.append(paper.written))

    finishing = held.finish(work())
    finishing.cancel()
    finishing.addErrback(lambda failure: failure.trap(CancelledError))
    held.give_up()
    disk.go_on()

    assert (seen, paper.written) == ([b"", b""], b"gone")


def _result_of(done: Deferred[None]) -> None:
    failures: list[Any] = []
    done.addErrback(failures.append)
    for failure in failures:
        failure.raiseException()
