"""A story that broke something, with all that does not matter left out.

Rules of this file: it knows only how to try. Steps are left out by halves, then
by ever smaller pieces, as long as something is still broken (Zeller's ddmin).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def shrunk(
    steps: Sequence[int], breaks: Callable[[Sequence[int]], bool], tries: int
) -> tuple[int, ...]:
    """Return fewer steps that break something, too.

    Args:
        steps: numbers of steps that break something together.
        breaks: tries some of them.
        tries: how often that may be asked.
    """
    left = list(steps)
    pieces = 2
    while len(left) > 1 and tries > 0:
        size = -(-len(left) // pieces)
        for start in range(0, len(left), size):
            rest = left[:start] + left[start + size :]
            tries -= 1
            if rest and breaks(rest):
                left = rest
                pieces = max(2, pieces - 1)
                break
            if tries <= 0:
                break
        else:
            if size == 1:
                break
            pieces = min(len(left), 2 * pieces)
    return tuple(left)
