"""Work done by several processes at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Given], Result], items: Sequence[Given], chunk: int = 1
) -> Iterator[Result]:
    """Yield what becomes of each item, in any order.

    Args:
        work: a function of a module.
        items: what to do it with.
        chunk: how many items a process takes at once.
    """
    pool = multiprocessing.get_context("fork").Pool(os.cpu_count())
    yield from pool.imap_unordered(work, items, chunksize=chunk)
    # Not as a context manager: that terminates, which can leave a lock taken.
    pool.close()
    pool.join()
