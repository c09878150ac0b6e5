"""How far it is, on a terminal: a line for each file under way, a total at the end.

Rules of this file: nothing is written where there is no terminal, or with ``--quiet``;
no more than five times a second; no line is wider than the terminal. What is shown of a
name cannot move the cursor.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections import deque
from typing import Any, TextIO

EVERY = 0.2
"""Seconds between two looks."""

_WINDOW = 4.0
"""Seconds over which a speed is measured."""

_NARROWEST = 40


class Item:
    """A file under way.

    Args:
        name: shown.
        now: the time, in seconds.
    """

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.done = 0
        self.total: int | None = None
        self.began = now
        self._first: int | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, done: int, total: int | None) -> None:
        """Take note of how many bytes there are, and will be."""
        if self._first is None:
            # What was there before did not come now.
            self._first = done
        self.done, self.total = done, total

    @property
    def moved(self) -> int:
        """Bytes that came or went now."""
        return max(0, self.done - (self._first or 0))

    def rate(self, now: float) -> float:
        """Bytes a second, lately."""
        self._seen.append((now, self.moved))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        then, count = self._seen[0]
        if now - then < EVERY / 2:
            then, count = self.began, 0
        passed = now - then
        return max(0.0, (self.moved - count) / passed) if passed > 0 else 0.0


class Progress:
    """The lines of all files.

    Args:
        clock: Twisted's reactor: tells the time, and when to look again.
        quiet: whether to show nothing.
        out: where to.
    """

    def __init__(self, clock: Any, *, quiet: bool, out: TextIO | None = None) -> None:
        self._clock = clock
        self._out = sys.stderr if out is None else out
        self.shown = not quiet and self._out.isatty()
        self._items: list[Item] = []
        self._lines = 0
        self._timer: Any = None
        self._began = clock.seconds()
        self._files = 0
        self._moved = 0

    def begin(self, name: str) -> Item:
        """Show one more file."""
        item = Item(name, self._clock.seconds())
        self._items.append(item)
        if self.shown and self._timer is None:
            self._timer = self._clock.callLater(EVERY, self._look)
        return item

    def end(self, item: Item, *, counts: bool = True) -> float:
        """Show a file no longer; return the seconds that it took.

        Args:
            item: which.
            counts: whether it belongs into the total.
        """
        if item in self._items:
            self._items.remove(item)
            self._moved += item.moved
            self._files += counts
        self.clear()
        if not self._items and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return float(self._clock.seconds() - item.began)

    def total(self) -> str | None:
        """Return a line about all files; None if there is none to be shown, or only one."""
        if not self.shown or self._files < 2:
            return None
        seconds = self._clock.seconds() - self._began
        return f"{self._files} files, {told(self._moved, seconds)}"

    def clear(self) -> None:
        """Take the lines away, so that something else can be written."""
        if self._lines:
            up = f"\x1b[{self._lines - 1}A" if self._lines > 1 else ""
            self._out.write(f"\r{up}\x1b[J")
            self._out.flush()
            self._lines = 0

    def _look(self) -> None:
        self._timer = self._clock.callLater(EVERY, self._look)
        now = self._clock.seconds()
        width, height = self._size()
        lines = [line(item, now, width) for item in self._items[: max(1, height - 2)]]
        self.clear()
        self._out.write("\n".join(lines))
        self._out.flush()
        self._lines = len(lines)

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return 80, 24
        return size.columns or 80, size.lines or 24


def line(item: Item, now: float, width: int) -> str:
    """Return the line of a file: name, per cent, bytes, speed, time left.

    Args:
        item: the file.
        now: the time, in seconds.
        width: columns of the terminal.
    """
    rate = item.rate(now)
    if item.total is None:
        figures = f"  {size(item.done):>10}  {size(rate)}/s"
    else:
        share = 100 if not item.total else int(100 * item.done / item.total)
        left = (item.total - item.done) / rate if rate > 0 else None
        figures = (
            f" {share:3d}%  {size(item.done):>10} of {size(item.total)}  {size(rate)}/s"
            f"  {'' if left is None else clock_time(left)}"
        )
    # One column less, or some terminals begin a new line.
    room = max(8, max(width, _NARROWEST) - 1 - len(figures))
    return _taken(f"{shortened(item.name, room)}{figures}", max(width, _NARROWEST) - 1)


def told(count: int, seconds: float) -> str:
    """Say how many bytes in how much time that was."""
    if seconds < 0.05:
        return size(count)
    return f"{size(count)} in {clock_time(seconds)} ({size(count / seconds)}/s)"


def size(count: float) -> str:
    """Return bytes for people: ``3.0 MiB``."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def clock_time(seconds: float) -> str:
    """Return seconds for people: ``2.5 s``, ``3:05``, ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return "days"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shortened(name: str, room: int) -> str:
    """Return a name that takes exactly so many columns, its middle left out if need be."""
    plain = "".join(each if each.isprintable() else "?" for each in name)
    if columns(plain) > room:
        half = (room - 1) // 2
        plain = f"{_taken(plain, half)}…{_taken(plain[::-1], room - 1 - half)[::-1]}"
    return plain + " " * (room - columns(plain))


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(_columns_of(each) for each in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _taken(text: str, room: int) -> str:
    taken, used = "", 0
    for each in text:
        used += _columns_of(each)
        if used > room:
            break
        taken += each
    return taken
