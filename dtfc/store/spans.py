"""Stretches of a blob: which bytes are there, and which are not.

Rules of this file: pure. Offsets count bytes from 0; a stretch is ``[start,
end)``. What is kept is as long as there are gaps, not as the blob.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Spans:
    """A set of bytes, as stretches that neither overlap nor touch.

    Args:
        stretches: to begin with; in any order.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, stretches: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in stretches:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Go through the stretches, in order."""
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __len__(self) -> int:
        """How many stretches there are."""
        return len(self._starts)

    def __repr__(self) -> str:
        """Show the stretches."""
        return f"Spans({list(self)})"

    def __eq__(self, other: object) -> bool:
        """Whether these are the same bytes."""
        return isinstance(other, Spans) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def front(self) -> int:
        """The bytes ``[0, front)`` are in it."""
        return self._ends[0] if self._starts and not self._starts[0] else 0

    @property
    def total(self) -> int:
        """How many bytes there are."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Put bytes in."""
        if start >= end:
            return
        # What overlaps or touches becomes one with it.
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take bytes out."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        left = self._starts[first]
        right = self._ends[last - 1]
        kept = [each for each in ((left, start), (end, right)) if each[0] < each[1]]
        self._starts[first:last] = [each[0] for each in kept]
        self._ends[first:last] = [each[1] for each in kept]

    def clear(self) -> None:
        """Take everything out."""
        self._starts.clear()
        self._ends.clear()

    def has(self, start: int, end: int) -> bool:
        """Tell whether all of these bytes are in it."""
        return start >= end or self.reach(start) >= end

    def reach(self, offset: int) -> int:
        """Return the end of the stretch that ``offset`` lies in; ``offset`` if in none."""
        at = bisect_right(self._starts, offset) - 1
        return max(offset, self._ends[at]) if at >= 0 else offset

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Go through what of ``[start, end)`` is not in it, in order."""
        at = start
        for index in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[index] >= end:
                break
            if self._starts[index] > at:
                yield at, self._starts[index]
            at = max(at, self._ends[index])
        if at < end:
            yield at, end
