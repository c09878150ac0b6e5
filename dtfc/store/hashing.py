"""Places for those who hash: no more at once than leave a processor for the loop.

Hashing needs neither the disk nor the interpreter's lock, so sixteen uploads
would take every processor there is, and the loop would wait for one like the
rest (74 ms were seen, on two). A trip to the disk waits here instead, and loses
nothing: there was no processor for it either.

The places are a process's: each worker leaves one to its own loop.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

#: How many threads of this process may hash at a time.
PLACES = max(1, (os.cpu_count() or 1) - 1)

#: Held by whoever hashes more than a few KiB.
place = threading.BoundedSemaphore(PLACES)

#: Takes the SHA-512 of what comes in, while the next block is written: it takes longer
#: than the rest together.
pool = ThreadPoolExecutor(PLACES, thread_name_prefix="sha512")

#: Blocks of one file that may be in :class:`Line`, so that the next one is there when
#: one is hashed, and not on its way through the loop ...
MOST = 3

#: ... and of all files together, above the first one of each: they are memory.
MOST_OF_ALL = 12

_changed = threading.Condition()
_in_line = 0


class Line:
    """Steps of one file's SHA-512 that are done in the pool, one after another.

    Used from one thread at a time.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[Callable[[], None], bool]] = deque()
        self._failure: BaseException | None = None

    def add(self, step: Callable[[], None], *, block: bool = True) -> None:
        """Have ``step`` done when those before it are; waits while too many blocks are in line.

        Args:
            step: what to do.
            block: whether it holds a block of bytes.
        """
        global _in_line  # noqa: PLW0603 -- what all lines hold together
        if not block and not self._steps:
            step()
            return
        with _changed:
            while block and self._steps and (len(self._steps) >= MOST or _in_line >= MOST_OF_ALL):
                _changed.wait()
            self._steps.append((step, block))
            _in_line += block
            first = len(self._steps) == 1
        if first:
            pool.submit(self._go_on)

    def settle(self) -> None:
        """Wait until all is done.

        Raises:
            BaseException: whatever a step raised.
        """
        with _changed:
            while self._steps:
                _changed.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _go_on(self) -> None:
        """Do the steps up to the next block, so that other files have their turn."""
        global _in_line  # noqa: PLW0603
        more = True
        while more:
            step, block = self._steps[0]
            try:
                step()
            except BaseException as error:  # noqa: BLE001 -- for who settles
                self._failure = error
            with _changed:
                self._steps.popleft()
                _in_line -= block
                _changed.notify_all()
                more = bool(self._steps) and not self._steps[0][1]
                again = bool(self._steps) and not more
        if again:
            pool.submit(self._go_on)


def _begin_anew() -> None:
    """Have a pool again in a process that was forked: threads are not inherited."""
    global _changed, _in_line, place, pool  # noqa: PLW0603 -- they are the parent's
    place = threading.BoundedSemaphore(PLACES)
    pool = ThreadPoolExecutor(PLACES, thread_name_prefix="sha512")
    _changed, _in_line = threading.Condition(), 0


os.register_at_fork(after_in_child=_begin_anew)
