"""Signed requests that the processes of a node have seen, remembered by all of them."""

from __future__ import annotations

from dtfc.access.replays import Senders, size_for
from dtfc.store.shared import SharedMemory


class SharedReplays:
    """What the processes of this node remember of signed requests, on disk.

    Args:
        path: of the file.

    Raises:
        StoreFailure: it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._memory = SharedMemory(path, size_for())
        self._senders = Senders(self._memory.buffer)

    def note(self, sender: str, number: int, until: float, now: float) -> None:
        """Remember a request that is about to be obeyed, as :class:`Senders` does."""
        with self._memory.locked():
            self._senders.note(sender, number, until, now)

    def close(self) -> None:
        """Let go of the file."""
        self._memory.close()
