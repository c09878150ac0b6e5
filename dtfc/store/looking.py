"""A partial that another process of the node writes, as it can be read meanwhile."""

from __future__ import annotations

import os

from dtfc.store.chunkmap import CHUNK
from dtfc.store.progress import Progress, spans_of
from dtfc.store.spans import Spans
from dtfc.store.volume import Volume


class Watched:
    """A partial that another process writes, for reading.

    Used from one thread at a time.

    Args:
        fd: the partial; belongs to this object, as the state does.
        state: what is known of it.
        volume: the file system.
    """

    def __init__(self, fd: int, state: Progress, volume: Volume) -> None:
        self.fd = fd
        self.held = Spans()
        """Which bytes were there at the last look."""
        self.trusted = b""
        """A byte for each chunk, as of the state."""
        self._state = state
        self._volume = volume
        self._mark = 0
        self._read()

    @property
    def length(self) -> int:
        """Of the blob, in bytes, as a peer said it."""
        return self._state.known.length

    @property
    def name(self) -> str | None:
        """That a peer gave."""
        return self._state.known.name

    @property
    def taken_back(self) -> int:
        """How often bytes were taken back."""
        return self._state.known.taken_back

    def look(self) -> bool:
        """Look again; False if this is of no use any more: another state is in its place.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("look at a partial blob"):
            if self._state.look():
                self._read()
            return os.fstat(self._state.fd).st_nlink > 0

    def _read(self) -> None:
        self.trusted = self._state.chunks()
        known = self._state.known
        self.held = spans_of(known.ready, self.trusted, known.length)

    def wish(self, start: int, end: int, mark: int) -> None:
        """Ask whoever loads to bring these bytes first.

        Args:
            start: the first.
            end: the one behind the last.
            mark: a number that no wish before has had.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("wish for a part of a blob"):
            self._state.wish(range(start // CHUNK, -(-end // CHUNK)), mark)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        self._state.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
