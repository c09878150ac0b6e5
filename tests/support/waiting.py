"""Waits for what another process does, and tells nobody of."""

from __future__ import annotations

import time
from collections.abc import Callable

_BETWEEN = 0.05


def until(
    so: Callable[[], object], told: Callable[[], object] = lambda: "", *, seconds: float = 30
) -> float:
    """Look again and again until something is so; return how many seconds that took.

    Args:
        so: what has to become true.
        told: says what is known, where it does not come about.
        seconds: to wait at most.

    Raises:
        AssertionError: it did not come about.
    """
    began = time.monotonic()
    while not so():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"waited {seconds} seconds in vain: {told()}")
        time.sleep(_BETWEEN)
    return time.monotonic() - began
