"""A blob kept open, and what tells that it is still what it was.

Every change of a blob (a marker, a name, a healed or deleted file) makes,
renames or removes an entry of its folder, which changes the folder's ctime; a
change of the bytes in place changes the file's. So two fstats, about a
microsecond together, say whether an answer prepared earlier still holds.

The kernel's time stamps move in ticks of up to 10 ms: a second change within
one tick leaves no trace. So a blob that changed less than :data:`SETTLED` ago is
not watched at all.
"""

from __future__ import annotations

import os
import time

from dtfc.store.facts import BlobInfo

#: Nanoseconds after which a further change gets a time stamp of its own.
SETTLED = 100_000_000


class WatchedBlob:
    """A blob that is open, with its folder.

    Args:
        info: its facts.
        fd: the file; belongs to this object.
        folder: its folder; belongs to this object.
        seen: the folder's ctime in nanoseconds, from before the facts were read.
    """

    __slots__ = ("_data_seen", "_folder", "_folder_seen", "fd", "info")

    def __init__(self, info: BlobInfo, fd: int, folder: int, seen: int) -> None:
        self.info = info
        self.fd = fd
        self._folder = folder
        self._folder_seen = seen
        self._data_seen = os.fstat(fd).st_ctime_ns

    def unchanged(self) -> bool:
        """Whether nothing about the blob has changed since it was opened."""
        return (
            os.fstat(self._folder).st_ctime_ns == self._folder_seen
            and os.fstat(self.fd).st_ctime_ns == self._data_seen
        )

    def settled(self) -> bool:
        """Whether a change from now on will be seen."""
        latest = max(self._folder_seen, self._data_seen)
        return time.time_ns() - latest > SETTLED

    def close(self) -> None:
        """Close both descriptors; harmless when repeated."""
        for fd in (self.fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self.fd = self._folder = -1
