"""The body of a request, as it arrives.

The channel feeds it, one coroutine reads it, and nothing is kept beyond a few
MiB: while nobody reads, or more than :data:`HIGH_WATER` bytes wait, the socket
is not read either, so the client feels the pace of the disk.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed

#: Bytes that may wait for their reader before the socket is paused: one MiB, while
#: the one before it is on the disk. With two, uploads were no faster, and 16 of
#: them took 46 MiB more.
HIGH_WATER = 1024 * 1024


class RequestBody:
    """A stream of bytes with back-pressure.

    Args:
        length: bytes announced by Content-Length; None for a chunked body.
        demand: called when the reader's interest changed, so that the channel
            may send ``100 Continue``, pause or resume the socket.
    """

    def __init__(self, length: int | None, demand: Callable[[], None]) -> None:
        self.length = length
        self.received = 0
        self.complete = length == 0
        self.opened = False
        self._demand = demand
        self._blocks: list[bytes] = []
        self._waiting_bytes = 0
        self._discarding = False
        self._error: Exception | None = None
        self._reader: Deferred[list[bytes]] | None = None
        self._at_least = 1

    @property
    def wanted(self) -> bool:
        """Whether the socket should be read now."""
        return self._discarding or (self.opened and self._waiting_bytes < HIGH_WATER)

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, where that is known."""
        return None if self.length is None else self.length - self.received

    @property
    def failed(self) -> bool:
        """Whether the body ended before it was complete."""
        return self._error is not None

    # -- the reader's side --------------------------------------------------

    def read(self, at_least: int) -> Deferred[list[bytes]]:
        """Wait for ``at_least`` bytes, or the end, and take all that is there.

        Only one read may be under way.

        Args:
            at_least: bytes to wait for, unless the body ends before.

        Returns:
            The blocks as they came; an empty list at the end of the body.

        Raises:
            DtfcError: the body was cut off, malformed or too slow.
        """
        self.opened = True
        if self._error is not None:
            return fail(self._error)
        if self.complete or self._waiting_bytes >= at_least:
            return succeed(self._take())
        # Fired by the channel: by _wake, or by fail_with.
        self._at_least = at_least
        self._reader = Deferred(self._reader_left)
        reader = self._reader
        self._demand()
        return reader

    def discard(self) -> None:
        """Throw away what is here and what comes: nobody will read it."""
        self._discarding = True
        self._blocks.clear()
        self._waiting_bytes = 0
        self._demand()

    def hurry(self) -> None:
        """Give a reader what is here, though it waits for more: the rest may never come."""
        if self._reader is not None and self._blocks:
            self._wake()

    def left(self) -> list[bytes]:
        """Take what came and was not read, though the body ended early."""
        blocks, self._blocks = self._blocks, []
        self._waiting_bytes = 0
        return blocks

    def _take(self) -> list[bytes]:
        blocks, self._blocks = self._blocks, []
        self._waiting_bytes = 0
        self._demand()
        return blocks

    def _reader_left(self, _reader: Deferred[list[bytes]]) -> None:
        self._reader = None

    # -- the channel's side -------------------------------------------------

    def feed(self, block: bytes) -> None:
        """Take bytes that came from the socket."""
        self.received += len(block)
        if self._discarding:
            return
        self._blocks.append(block)
        self._waiting_bytes += len(block)
        if self._reader is not None and self._waiting_bytes >= self._at_least:
            self._wake()

    def finish(self) -> None:
        """Note that the last byte is in."""
        self.complete = True
        if self._reader is not None:
            self._wake()

    def fail_with(self, error: Exception) -> None:
        """Note that the rest will not come; the reader gets ``error``."""
        if self.complete or self._error is not None:
            return
        self._error = error
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.errback(error)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            blocks, self._blocks = self._blocks, []
            self._waiting_bytes = 0
            reader.callback(blocks)
