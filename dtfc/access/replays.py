"""Whether a signed request was seen before.

Rules of this file: pure. The table is laid out in a buffer that is handed in,
so that several processes may share one; whoever shares it locks it around each
call. A table has a fixed size, whatever arrives.

A nonce is a sender and a number: 16 hexadecimal digits that a process chose at
its start, and a count of what it has signed since. So nothing has to be kept
of a single request: for each sender the highest number that came, and which of
the :data:`WINDOW` numbers below it did. A request further behind is refused as
if it had been seen. A sender is remembered until the last thing it signed is
too old to be accepted anyway.
"""

from __future__ import annotations

import mmap
import struct

from dtfc.errors import BadSignature, TooManySenders

SENDERS = 4096
"""How many senders are remembered."""

WINDOW = 8192
"""How far a request may be overtaken by others of its sender."""

_WORD = struct.Struct("=Q")
_EMPTY = bytes(8)
_BITS = WINDOW // 8
_LARGEST = 2**63

Buffer = bytearray | mmap.mmap


def size_for(senders: int = SENDERS) -> int:
    """Return the bytes that a table takes."""
    return senders * (3 * 8 + _BITS)


class Senders:
    """Remembers which requests of which senders came.

    The buffer holds, for each place: the senders' names, one behind the other;
    until when they are remembered; their highest numbers; their windows.

    Args:
        buffer: of :func:`size_for` bytes; all zero in the beginning.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._most = len(buffer) // (3 * 8 + _BITS)

    def note(self, sender: str, number: int, until: float, now: float) -> None:
        """Remember a request that is about to be obeyed.

        Args:
            sender: 16 hexadecimal digits.
            number: below 2 ** 63.
            until: when it is too old to be accepted, in seconds since 1970.
            now: the same kind of seconds.

        Raises:
            BadSignature: it came before, or so many later ones of its sender
                have that nobody knows.
            TooManySenders: there is no place for another sender.
        """
        if number >= _LARGEST:
            raise BadSignature("its nonce counts higher than any node does")
        name = bytes.fromhex(sender)
        place = self._find(name)
        if place is None:
            place = self._free(now)
            self._begin(place, name, number)
        highest = self._get(2, place)
        if number > highest:
            # In this order, whatever the process does not live to do leads to
            # a refusal, never to a request that is obeyed twice.
            self._set(2, place, number)
            self._clear(place, highest, number)
        elif number <= highest - WINDOW:
            raise BadSignature("more than 8192 later requests of its sender came before it")
        self._mark(place, number)
        if int(until) >= self._get(1, place):
            self._set(1, place, int(until) + 1)

    # -- places -------------------------------------------------------------

    def _find(self, name: bytes, start: int = 0) -> int | None:
        """Find the place of a sender, or with zeros the first free one."""
        end = self._most * 8
        at = self._buffer.find(name, start, end)
        while at >= 0 and at % 8:
            at = self._buffer.find(name, at + 1, end)
        return at // 8 if at >= 0 else None

    def _free(self, now: float) -> int:
        place = self._find(_EMPTY)
        if place is not None:
            return place
        soonest = min(range(self._most), key=lambda each: self._get(1, each))
        until = self._get(1, soonest)
        if until > now:
            raise TooManySenders(self._most, retry_after=max(1, min(600, int(until - now) + 1)))
        return soonest

    def _begin(self, place: int, name: bytes, number: int) -> None:
        start = self._window(place)
        self._buffer[start : start + _BITS] = bytes(_BITS)
        self._set(1, place, 0)
        self._set(2, place, number)
        self._buffer[place * 8 : place * 8 + 8] = name

    # -- what is known of one -----------------------------------------------

    def _mark(self, place: int, number: int) -> None:
        at = self._window(place) + number % WINDOW // 8
        bit = 1 << number % 8
        if self._buffer[at] & bit:
            raise BadSignature("it came before: a request is obeyed once")
        self._buffer[at] |= bit

    def _clear(self, place: int, highest: int, number: int) -> None:
        """Forget what stood where the numbers above ``highest`` have their bits."""
        start = self._window(place)
        if number - highest >= WINDOW:
            self._buffer[start : start + _BITS] = bytes(_BITS)
            return
        for each in range(highest + 1, number + 1):
            self._buffer[start + each % WINDOW // 8] &= ~(1 << each % 8) & 0xFF

    def _window(self, place: int) -> int:
        return self._most * 24 + place * _BITS

    def _get(self, column: int, place: int) -> int:
        return int(_WORD.unpack_from(self._buffer, (column * self._most + place) * 8)[0])

    def _set(self, column: int, place: int, value: int) -> None:
        _WORD.pack_into(self._buffer, (column * self._most + place) * 8, value)
