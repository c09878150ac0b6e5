"""Links of equal capacity, chunk by chunk: who sends what to whom, and when it is there.

Rules of this file: pure. A node's uplink sends one chunk at a time, of each of
its streams in turn, which is what equal shares come to; a downlink takes one
chunk at a time. A chunk can be sent on when all of it is there.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Timeline:
    """What is going to happen, in its order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.happened = 0
        self._queue: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._numbers = 0

    def at(self, when: float, function: Callable[..., Any], *args: Any) -> None:
        """Let something happen at a time."""
        self._numbers += 1
        heapq.heappush(self._queue, (when, self._numbers, function, args))

    def run(self) -> None:
        """Let everything happen."""
        while self._queue:
            self.now, _, function, args = heapq.heappop(self._queue)
            self.happened += 1
            function(*args)


@dataclass(eq=False, slots=True)
class Stream:
    """A body on its way: chunks of one node to another.

    Args:
        source: who sends.
        target: who receives.
        next: the chunk that comes next.
        stop: the chunk before which it ends.
        got: told of each chunk that has come.
        ended: told when it is over, and why if it was cut.
    """

    source: Link
    target: Link
    next: int
    stop: int
    got: Callable[[int], None]
    ended: Callable[[str | None], None]
    over: bool = False
    of: tuple[str, int] = ("", 0)
    """Which answer it is: who asked, and the number of the request."""


@dataclass(eq=False, slots=True)
class Link:
    """How one node is connected.

    Args:
        timeline: of everything.
        chunk: seconds that a chunk takes.
        latency: seconds until what was sent arrives.
    """

    timeline: Timeline
    chunk: float
    latency: float
    sent: int = 0
    """Chunks sent so far."""
    has: Callable[[int], bool] = lambda _chunk: False
    """Whether this node can send a chunk."""
    streams: deque[Stream] = field(default_factory=deque)
    _busy: bool = False
    _down_free: float = 0.0

    def begin(self, stream: Stream) -> None:
        """Send a stream, beside the others."""
        self.streams.append(stream)
        self.go_on()

    def end(self, stream: Stream, why: str | None = None) -> None:
        """Send nothing more of a stream, and tell who receives it."""
        if not stream.over:
            stream.over = True
            self.streams.remove(stream)
            self.timeline.at(self.timeline.now + self.latency, stream.ended, why)

    def drop(self, stream: Stream) -> None:
        """Send nothing more of a stream, as who receives it wants."""
        if not stream.over:
            stream.over = True
            self.streams.remove(stream)

    def shorten(self, stream: Stream, stop: int) -> None:
        """Send nothing of a stream from this chunk on."""
        stream.stop = min(stream.stop, stop)
        if stream.next >= stream.stop:
            self.end(stream)

    def go_on(self) -> None:
        """Send the next chunk, if there is one that can be sent."""
        if self._busy:
            return
        for _ in range(len(self.streams)):
            stream = self.streams[0]
            self.streams.rotate(-1)
            if self.has(stream.next):
                self._busy = True
                self.timeline.at(self.timeline.now + self.chunk, self._left, stream)
                return

    def _left(self, stream: Stream) -> None:
        self._busy = False
        self.sent += 1
        chunk = stream.next
        stream.next += 1
        target = stream.target
        arrives = max(self.timeline.now + self.latency, target._down_free + self.chunk)  # noqa: SLF001 -- a link as well
        target._down_free = arrives  # noqa: SLF001 -- the same
        self.timeline.at(arrives, stream.got, chunk)
        if stream.next >= stream.stop and not stream.over:
            stream.over = True
            self.streams.remove(stream)
            self.timeline.at(arrives, stream.ended, None)
        self.go_on()
